// Package metrics serves GET /metrics: what the guest uses.
package metrics

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"torpor/guest/envd/internal/guestos"
	"torpor/guest/envd/internal/httperr"
)

// Sample is the answer. The MiB fields are for older clients.
type Sample struct {
	Timestamp  int64   `json:"ts"`
	CPUCount   int     `json:"cpu_count"`
	CPUUsedPct float64 `json:"cpu_used_pct"`
	MemTotal   uint64  `json:"mem_total"`
	MemUsed    uint64  `json:"mem_used"`
	MemCache   uint64  `json:"mem_cache"`
	MemTotalM  uint64  `json:"mem_total_mib"`
	MemUsedM   uint64  `json:"mem_used_mib"`
	DiskUsed   uint64  `json:"disk_used"`
	DiskTotal  uint64  `json:"disk_total"`
}

// Handler measures processor use between one request and the next: the agent needs
// no timer for it, which would keep an idle guest awake.
type Handler struct {
	mu     sync.Mutex
	before cpuTimes
	used   float64
}

type cpuTimes struct{ busy, total uint64 }

// A shorter interval than this measures the request itself.
const minTicks = 10

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	sample, err := h.sample()
	if err != nil {
		httperr.Write(w, r, httperr.New(http.StatusInternalServerError, "metrics: %w", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if err := json.NewEncoder(w).Encode(sample); err != nil {
		slog.Debug("answer not sent", "path", r.URL.Path, "error", err)
	}
}

func (h *Handler) sample() (Sample, error) {
	used, err := h.processor()
	if err != nil {
		return Sample{}, err
	}
	memory, err := guestos.ReadMemory()
	if err != nil {
		return Sample{}, err
	}
	var disk unix.Statfs_t
	if err := unix.Statfs("/", &disk); err != nil {
		return Sample{}, fmt.Errorf("statfs /: %w", err)
	}
	block := uint64(disk.Bsize)
	memoryUsed := memory.Total - min(memory.Available, memory.Total)
	return Sample{
		Timestamp: time.Now().Unix(), CPUCount: runtime.NumCPU(), CPUUsedPct: used,
		MemTotal: memory.Total, MemUsed: memoryUsed, MemCache: memory.Cached,
		MemTotalM: memory.Total >> 20, MemUsedM: memoryUsed >> 20,
		DiskUsed: (disk.Blocks - disk.Bfree) * block, DiskTotal: disk.Blocks * block,
	}, nil
}

// processor is the share of all processors since the last request, or since boot.
func (h *Handler) processor() (float64, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	now, err := parseCPU(stat)
	if err != nil {
		return 0, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if total := now.total - h.before.total; total >= minTicks {
		percent := float64(now.busy-h.before.busy) * 100 / float64(total)
		h.used = float64(int(percent*100+0.5)) / 100
		h.before = now
	}
	return h.used, nil
}

// parseCPU adds up the first line of /proc/stat. Guest time is contained in user time.
func parseCPU(stat []byte) (cpuTimes, error) {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	fields := bytes.Fields(line)
	if len(fields) < 9 || string(fields[0]) != "cpu" {
		return cpuTimes{}, fmt.Errorf("/proc/stat begins with %q", line)
	}
	var times cpuTimes
	for i, field := range fields[1:9] {
		ticks, err := strconv.ParseUint(string(field), 10, 64)
		if err != nil {
			return cpuTimes{}, fmt.Errorf("/proc/stat: %w", err)
		}
		times.total += ticks
		if i != 3 && i != 4 { // idle, and waiting for the disk
			times.busy += ticks
		}
	}
	return times, nil
}
