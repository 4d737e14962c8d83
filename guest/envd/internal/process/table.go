package process

import (
	"sort"
	"sync"
	"time"
)

// Retention is how long the end of a process can still be asked for.
const Retention = 30 * time.Second

// Entry is a process with what its caller said about it.
type Entry struct {
	*Process
	Tag string
	// Described is the request as it came, for List.
	Described any

	started uint64
}

// Table has the processes that run, and those that ended within the retention time.
type Table struct {
	retention time.Duration

	mu      sync.Mutex
	entries map[int]*Entry
	count   uint64
}

func NewTable(retention time.Duration) *Table {
	return &Table{retention: retention, entries: map[int]*Entry{}}
}

// Start runs the program and enters it.
func (t *Table) Start(spec Spec, tag string, described any) (*Entry, *Reader, error) {
	started, reader, err := Start(spec)
	if err != nil {
		return nil, nil, err
	}
	entry := &Entry{Process: started, Tag: tag, Described: described}
	t.mu.Lock()
	t.count++
	entry.started = t.count
	// A pid that comes round again replaces the ended process that had it.
	t.entries[entry.PID] = entry
	t.mu.Unlock()
	go t.forget(entry)
	return entry, reader, nil
}

func (t *Table) forget(entry *Entry) {
	<-entry.Done()
	time.AfterFunc(t.retention, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.entries[entry.PID] == entry {
			delete(t.entries, entry.PID)
		}
	})
}

// Running is in the order of starting.
func (t *Table) Running() []*Entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	running := make([]*Entry, 0, len(t.entries))
	for _, entry := range t.entries {
		if entry.Running() {
			running = append(running, entry)
		}
	}
	sort.Slice(running, func(i, j int) bool { return running[i].started < running[j].started })
	return running
}

// ByPID finds ended ones too.
func (t *Table) ByPID(pid int) (*Entry, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	entry, found := t.entries[pid]
	return entry, found
}

// ByTag takes the latest where a tag was given twice, a running one before an ended one.
func (t *Table) ByTag(tag string) (*Entry, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var best *Entry
	for _, entry := range t.entries {
		if entry.Tag != tag || tag == "" {
			continue
		}
		if best == nil || entry.better(best) {
			best = entry
		}
	}
	return best, best != nil
}

func (e *Entry) better(than *Entry) bool {
	if e.Running() != than.Running() {
		return e.Running()
	}
	return e.started > than.started
}
