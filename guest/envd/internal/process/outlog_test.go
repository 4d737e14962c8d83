package process

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"
)

// soon is patience for what must happen, so that a failure is not a hang.
const soon = 20 * time.Second

func next(t *testing.T, reader *Reader) Event {
	t.Helper()
	event, ok, err := reader.Next(context.Background(), soon)
	if err != nil || !ok {
		t.Fatalf("no event: ok %v, %v", ok, err)
	}
	return event
}

// readAll is what a reader gets until the exit.
func readAll(t *testing.T, reader *Reader) (output []byte, dropped uint64, exit *Exit) {
	t.Helper()
	for {
		event := next(t, reader)
		output = append(output, event.Data...)
		dropped += event.Dropped
		if event.Exit != nil {
			return output, dropped, event.Exit
		}
	}
}

func TestOutputBeforeTheFirstReaderIsKept(t *testing.T) {
	log := NewLog()
	log.Append(Stdout, []byte("early "))
	log.Append(Stdout, []byte("bird"))
	reader := log.NewReader()
	defer reader.Close()
	if got := next(t, reader); string(got.Data) != "early bird" {
		t.Errorf("got %q", got.Data)
	}
}

func TestKindsKeepTheirOrder(t *testing.T) {
	log := NewLog()
	for _, kind := range []Kind{Stdout, Stderr, Stdout} {
		log.Append(kind, []byte{'a'})
	}
	reader := log.NewReader()
	for _, kind := range []Kind{Stdout, Stderr, Stdout} {
		if got := next(t, reader); got.Kind != kind {
			t.Fatalf("got %v, want %v", got.Kind, kind)
		}
	}
}

func TestALaterReaderGetsWhatNobodyReceived(t *testing.T) {
	log := NewLog()
	first := log.NewReader()
	log.Append(Stdout, []byte("one"))
	next(t, first)
	log.Append(Stdout, []byte("two"))
	if _, ok := first.take(); !ok { // acknowledges "one"; "two" is on its way
		t.Fatal("no second event")
	}
	first.Close()
	log.Append(Stdout, []byte("three"))
	log.Close(&Exit{Code: 7})
	output, dropped, exit := readAll(t, log.NewReader())
	if string(output) != "twothree" || dropped != 0 || exit.Code != 7 {
		t.Errorf("got %q, %d dropped, exit %+v", output, dropped, exit)
	}
}

func TestALoneReaderLosesNothingHoweverSlow(t *testing.T) {
	log := NewLog()
	reader := log.NewReader()
	const total = 8 * keepLimit
	go func() {
		block := bytes.Repeat([]byte{'x'}, 10_000)
		for sent := 0; sent < total; sent += len(block) {
			log.Append(Stdout, block[:min(len(block), total-sent)])
		}
		log.Close(&Exit{})
	}()
	received := 0
	for {
		event := next(t, reader)
		if event.Dropped > 0 {
			t.Fatalf("%d bytes dropped", event.Dropped)
		}
		if event.Exit != nil {
			break
		}
		received += len(event.Data)
		log.mu.Lock()
		if log.size > paceWindow+2*joinLimit+recordOverhead*20 {
			t.Errorf("%d bytes are held for one reader", log.size)
		}
		log.mu.Unlock()
	}
	if received != total {
		t.Errorf("received %d of %d", received, total)
	}
}

func TestASlowReaderIsToldItsLossAndHoldsUpNobody(t *testing.T) {
	log := NewLog()
	slow, fast := log.NewReader(), log.NewReader()
	const total = 4 * keepLimit
	var received int
	var work sync.WaitGroup
	work.Go(func() {
		for event := next(t, fast); event.Exit == nil; event = next(t, fast) {
			received += len(event.Data)
		}
	})
	for sent := 0; sent < total; sent += 1000 {
		log.Append(Stdout, bytes.Repeat([]byte{'x'}, min(1000, total-sent)))
	}
	log.Close(&Exit{})
	work.Wait()
	if received != total {
		t.Errorf("the fast reader got %d of %d", received, total)
	}
	output, dropped, _ := readAll(t, slow)
	if dropped == 0 || uint64(len(output))+dropped != total {
		t.Errorf("the slow reader got %d and was told of %d; %d were written", len(output), dropped, total)
	}
	if len(output) > keepLimit {
		t.Errorf("%d bytes were kept", len(output))
	}
}

func TestWithoutReadersTheProcessNeverWaitsAndTheEndIsKept(t *testing.T) {
	log := NewLog()
	for range 3 * keepLimit / 1000 {
		log.Append(Stdout, bytes.Repeat([]byte{'x'}, 1000))
	}
	log.Append(Stdout, []byte("last words"))
	log.Close(&Exit{})
	output, dropped, _ := readAll(t, log.NewReader())
	if dropped == 0 || !bytes.HasSuffix(output, []byte("last words")) || len(output) > keepLimit {
		t.Errorf("%d bytes kept, %d dropped, end %q", len(output), dropped, output[max(0, len(output)-10):])
	}
}

func TestAReaderThatLeavesLetsTheProcessGoOn(t *testing.T) {
	log := NewLog()
	stuck := log.NewReader()
	written := make(chan struct{})
	go func() {
		for range 4 {
			log.Append(Stdout, make([]byte, paceWindow))
		}
		close(written)
	}()
	select {
	case <-written:
		t.Fatal("the process ran away from its only reader")
	case <-time.After(50 * time.Millisecond):
	}
	stuck.Close()
	select {
	case <-written:
	case <-time.After(soon):
		t.Fatal("the process still waits for a reader that left")
	}
}

func TestNextGivesUp(t *testing.T) {
	reader := NewLog().NewReader()
	if _, ok, err := reader.Next(context.Background(), time.Millisecond); ok || err != nil {
		t.Errorf("patience: ok %v, %v", ok, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := reader.Next(ctx, soon); err != context.Canceled {
		t.Errorf("got %v", err)
	}
}
