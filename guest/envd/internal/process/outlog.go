package process

import (
	"context"
	"sort"
	"sync"
	"time"
)

// Kind is where a piece of output came from.
type Kind int

const (
	Stdout Kind = iota
	Stderr
	PTY
)

// Event is one thing a reader gets. Exactly one of Data, Dropped and Exit is set.
type Event struct {
	Kind    Kind
	Data    []byte
	Dropped uint64 // bytes this reader will never get
	Exit    *Exit  // always the last
}

const (
	// The process is paced by its fastest reader: it may run this far ahead of it.
	paceWindow = 256 << 10
	// What is kept for slower readers, or while nobody reads. The oldest goes first.
	keepLimit = 1 << 20
	// Small writes are joined, or bookkeeping would outweigh the output it describes.
	joinLimit      = 32 << 10
	recordOverhead = 64
)

// Log is the output of one process, handed to any number of readers.
//
// Back pressure and loss are both bounded. As long as somebody reads, the process
// waits for its fastest reader, as it would in a pipe, so a lone reader loses nothing.
// A reader that falls keepLimit behind the fastest loses the oldest output and is
// told how much. With no reader the process never waits; what nobody has received
// yet is kept, up to keepLimit, for the next reader.
//
// Positions are offsets into everything ever written; records start at one.
type Log struct {
	mu        sync.Mutex
	moved     *sync.Cond // a reader advanced, came or went
	records   []record
	size      int
	end       uint64 // offset after the last record
	delivered uint64 // every byte before has reached somebody, or is lost
	exit      *Exit
	readers   map[*Reader]struct{}
}

type record struct {
	kind  Kind
	start uint64
	data  []byte
}

func NewLog() *Log {
	log := &Log{readers: map[*Reader]struct{}{}}
	log.moved = sync.NewCond(&log.mu)
	return log
}

// Append copies data. It waits while the fastest reader is too far behind.
func (l *Log) Append(kind Kind, data []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.readers) > 0 && l.end-l.fastest() >= paceWindow {
		l.moved.Wait()
	}
	if last := len(l.records) - 1; last >= 0 && l.joinable(last, kind, len(data)) {
		l.records[last].data = append(l.records[last].data, data...)
	} else {
		l.records = append(l.records, record{kind: kind, start: l.end, data: append([]byte(nil), data...)})
		l.size += recordOverhead
	}
	l.size += len(data)
	l.end += uint64(len(data))
	l.trim()
	l.wakeReaders()
}

// Close ends the log. Every reader gets what is left, then the exit.
func (l *Log) Close(exit *Exit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.exit = exit
	l.wakeReaders()
}

// joinable: nobody may have been given the record that would grow.
func (l *Log) joinable(at int, kind Kind, more int) bool {
	last := l.records[at]
	return last.kind == kind && len(last.data)+more <= joinLimit &&
		l.delivered <= last.start && l.fastest() <= last.start
}

func (l *Log) fastest() uint64 {
	position := uint64(0)
	for reader := range l.readers {
		position = max(position, reader.position)
	}
	return position
}

// trim forgets what everybody has, then the oldest that is too much.
func (l *Log) trim() {
	needed := l.delivered
	for reader := range l.readers {
		needed = min(needed, reader.position)
	}
	drop := 0
	for drop < len(l.records) && (l.records[drop].start < needed || l.size > keepLimit) {
		l.size -= len(l.records[drop].data) + recordOverhead
		l.records[drop] = record{} // the slice keeps its array: let the bytes go
		drop++
	}
	l.records = l.records[drop:]
	if len(l.records) == 0 {
		l.records = nil
	}
}

func (l *Log) wakeReaders() {
	for reader := range l.readers {
		select {
		case reader.wake <- struct{}{}:
		default: // already woken
		}
	}
}

// Reader is one subscriber's place in the log. Not for concurrent use.
type Reader struct {
	log      *Log
	position uint64
	wake     chan struct{}
}

// NewReader begins with the oldest output that has reached nobody.
func (l *Log) NewReader() *Reader {
	l.mu.Lock()
	defer l.mu.Unlock()
	reader := &Reader{log: l, position: l.delivered, wake: make(chan struct{}, 1)}
	l.readers[reader] = struct{}{}
	l.moved.Broadcast()
	return reader
}

// Close gives the place up. What the last call of Next returned counts as not received.
func (r *Reader) Close() {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	delete(r.log.readers, r)
	r.log.trim()
	r.log.moved.Broadcast()
}

// Next waits for the next event, at most for patience (then ok is false). Calling it
// again says that the event before has been received.
func (r *Reader) Next(ctx context.Context, patience time.Duration) (event Event, ok bool, err error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		if event, ok = r.take(); ok {
			return event, true, nil
		}
		select {
		case <-r.wake:
		case <-timer.C:
			return Event{}, false, nil
		case <-ctx.Done():
			return Event{}, false, ctx.Err()
		}
	}
}

func (r *Reader) take() (Event, bool) {
	l := r.log
	l.mu.Lock()
	defer l.mu.Unlock()
	l.delivered = max(l.delivered, r.position)
	l.trim()
	defer l.moved.Broadcast()

	oldest := l.end
	if len(l.records) > 0 {
		oldest = l.records[0].start
	}
	if r.position < oldest {
		lost := oldest - r.position
		r.position = oldest
		return Event{Dropped: lost}, true
	}
	at := sort.Search(len(l.records), func(i int) bool { return l.records[i].start >= r.position })
	if at < len(l.records) {
		found := l.records[at]
		r.position = found.start + uint64(len(found.data))
		return Event{Kind: found.kind, Data: found.data}, true
	}
	if l.exit != nil {
		return Event{Exit: l.exit}, true
	}
	return Event{}, false
}
