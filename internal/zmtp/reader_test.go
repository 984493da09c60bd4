package zmtp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// piecewise is a connection whose reads return at most size bytes.
type piecewise struct {
	net.Conn
	data []byte
	size int
	last error // returned at the end; nil means io.EOF
}

func (c *piecewise) Read(p []byte) (int, error) {
	if len(c.data) == 0 {
		if c.last != nil {
			return 0, c.last
		}
		return 0, io.EOF
	}
	n := copy(p, c.data[:min(len(c.data), c.size)])
	c.data = c.data[n:]
	return n, nil
}

func (c *piecewise) SetReadDeadline(time.Time) error { return nil }

// account is a budget that records its use.
type account struct {
	mu                sync.Mutex
	used, peak, limit int64
}

var errBudget = errors.New("no memory left")

func (a *account) Take(n int64, _ bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.limit > 0 && a.used+n > a.limit {
		return errBudget
	}
	a.used += n
	a.peak = max(a.peak, a.used)
	return nil
}

func (a *account) Release(n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.used -= n
}

func (a *account) Crowded() bool { return false }

func (a *account) now() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.used
}

// parse is a plain implementation, which needs all bytes at once.
func parse(b []byte, maxMessage, maxFrames int) (messages [][][]byte, commands [][]byte, ok bool) {
	for len(b) > 0 {
		var frames [][]byte
		size, count := 0, 0
		for more := true; more; {
			if len(b) == 0 {
				return messages, commands, false
			}
			flags := b[0]
			if flags&^7 != 0 || len(b) < 2 {
				return messages, commands, false
			}
			n, header := uint64(b[1]), 2
			if flags&2 != 0 {
				if len(b) < 9 {
					return messages, commands, false
				}
				n, header = binary.BigEndian.Uint64(b[1:]), 9
			}
			if n > uint64(maxMessage) || flags&4 != 0 && (n > maxCommandLen || flags&1 != 0) {
				return messages, commands, false
			}
			size, count = size+header+int(n), count+1
			if size > maxMessage || count > maxFrames || uint64(len(b)-header) < n {
				return messages, commands, false
			}
			body := b[header : header+int(n)]
			b = b[header+int(n):]
			if flags&4 != 0 {
				commands = append(commands, body)
				if len(frames) == 0 {
					size, count = 0, 0
					break
				}
				continue
			}
			frames = append(frames, body)
			more = flags&1 != 0
		}
		if len(frames) > 0 {
			messages = append(messages, frames)
		}
	}
	return messages, commands, true
}

func message(frames ...string) []byte {
	var b []byte
	for i, f := range frames {
		b = AppendFrame(b, []byte(f), i < len(frames)-1)
	}
	return b
}

// FuzzReader compares Reader with parse, however the bytes arrive.
func FuzzReader(f *testing.F) {
	f.Add(message("append", "k", "v"), uint16(1))
	f.Add(append(message("a", ""), AppendCommand(nil, "PING", []byte{0, 1})...), uint16(3))
	f.Add(append(message("a", "b")[:3], AppendCommand(message(), "PING", []byte("xy"))...), uint16(2))
	f.Add(append(message(string(make([]byte, 70_000))), message("x")...), uint16(5000))
	f.Add([]byte{2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, uint16(9))
	f.Add([]byte{1, 0, 1, 0, 1, 0, 1, 0, 1, 0}, uint16(10))
	f.Fuzz(func(t *testing.T, data []byte, size uint16) {
		const maxMessage, maxFrames = 100_000, 50
		wantMessages, wantCommands, ok := parse(data, maxMessage, maxFrames)
		var commands [][]byte
		budget := &account{}
		rest := data[:min(len(data), int(size)%7)]
		r := NewReader(&piecewise{data: data[len(rest):], size: int(size)%8192 + 1}, rest, ReaderOptions{
			MaxMessage: maxMessage, MaxFrames: maxFrames, Budget: budget,
			Command: func(body []byte) error { commands = append(commands, bytes.Clone(body)); return nil },
		})
		var err error
		n := 0
		for ; ; n++ {
			var frames [][]byte
			if frames, err = r.Next(); err != nil {
				break
			}
			if n >= len(wantMessages) || len(frames) != len(wantMessages[n]) {
				t.Fatalf("message %d of %d has %d frames", n, len(wantMessages), len(frames))
			}
			for i := range frames {
				if !bytes.Equal(frames[i], wantMessages[n][i]) {
					t.Fatalf("message %d, frame %d: %q, want %q", n, i, frames[i], wantMessages[n][i])
				}
			}
		}
		if n != len(wantMessages) || ok != (err == io.EOF) || ok && len(commands) != len(wantCommands) {
			t.Fatalf("%d messages, %d commands, %v, want %d, %d, complete %v", n, len(commands), err, len(wantMessages), len(wantCommands), ok)
		}
		if limit := int64(3*len(data) + 4*firstGrowth + 200*frameBytes); budget.peak > limit {
			t.Fatalf("%d bytes took %d of memory", len(data), budget.peak)
		}
		if r.Close(); budget.used != 0 {
			t.Fatalf("%d bytes of the budget were not released", budget.used)
		}
	})
}

// FuzzNextFrame reads replies as a client does.
func FuzzNextFrame(f *testing.F) {
	f.Add(message("reply"), uint16(1))
	f.Add(append(message(string(make([]byte, 70_000))), message("x")...), uint16(5000))
	f.Add(message("two", "frames"), uint16(5))
	f.Fuzz(func(t *testing.T, data []byte, size uint16) {
		const maxMessage = 100_000
		want, _, complete := parse(data, maxMessage, 16)
		r := NewReader(&piecewise{data: data, size: int(size)%8192 + 1}, nil, ReaderOptions{MaxMessage: maxMessage, MaxFrames: 16})
		n := 0
		for ; ; n++ {
			body, owned, err := r.NextFrame()
			if err != nil {
				if single := n < len(want) && len(want[n]) == 1; single || n == len(want) && complete && err != io.EOF {
					t.Fatalf("message %d of %d: %v", n, len(want), err)
				}
				return
			}
			if n >= len(want) || len(want[n]) != 1 || !bytes.Equal(body, want[n][0]) {
				t.Fatalf("message %d: %d bytes, owned %v", n, len(body), owned)
			}
		}
	})
}

// TestClaimedLengthsAllocateNothing sends a frame that claims to be large, and stops.
func TestClaimedLengthsAllocateNothing(t *testing.T) {
	budget := &account{}
	data := append(binary.BigEndian.AppendUint64([]byte{2}, 200<<20), make([]byte, 10_000)...)
	r := NewReader(&piecewise{data: data, size: 4096}, nil, ReaderOptions{MaxMessage: 256 << 20, MaxFrames: 10, Budget: budget})
	if _, err := r.Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a cut-off message: %v", err)
	}
	if budget.peak > 1<<20 {
		t.Errorf("%d bytes that claim to be 200 MiB used %d bytes of memory", len(data), budget.peak)
	}
}

// TestBudgetIsKept refuses a message whose bytes or frames exceed the budget.
func TestBudgetIsKept(t *testing.T) {
	for name, data := range map[string][]byte{
		"bytes":        message("k", string(make([]byte, 900_000))),
		"empty frames": bytes.Repeat([]byte{1, 0}, 100_000),
	} {
		budget := &account{limit: 512 << 10}
		r := NewReader(&piecewise{data: data, size: 64 << 10}, nil, ReaderOptions{MaxMessage: 256 << 20, MaxFrames: 1 << 20, Budget: budget})
		if _, err := r.Next(); !errors.Is(err, errBudget) {
			t.Errorf("%s: %v", name, err)
		}
		if r.Close(); budget.used != 0 {
			t.Errorf("%s: %d bytes were not released", name, budget.used)
		}
	}
}

// TestQuietConnection releases the memory of a quiet connection after a short time.
func TestQuietConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		budget := &account{}
		r := NewReader(ours, nil, ReaderOptions{MaxMessage: 1 << 20, MaxFrames: 10, Budget: budget, Idle: time.Minute, Stall: time.Second})
		go theirs.Write(message(string(make([]byte, 500_000))))
		if _, err := r.Next(); err != nil || budget.used < 500_000 {
			t.Fatalf("%v, %d bytes are charged", err, budget.used)
		}
		begin := time.Now()
		go func() {
			time.Sleep(2 * keepTime)
			if n := budget.now(); n != 0 {
				t.Errorf("%d bytes are charged to a quiet connection", n)
			}
		}()
		if _, err := r.Next(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a connection without a message: %v", err)
		}
		if d := time.Since(begin); d < time.Minute || d > time.Minute+2*keepTime {
			t.Errorf("it was closed after %v", d)
		}
	})
}

// TestStalledMessages ends messages that stop or that arrive too slowly.
func TestStalledMessages(t *testing.T) {
	for name, pause := range map[string]time.Duration{"silent": time.Hour, "slow": 900 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			ours, theirs := net.Pipe()
			defer theirs.Close()
			r := NewReader(ours, nil, ReaderOptions{MaxMessage: 1 << 20, MaxFrames: 10, Stall: 10 * time.Second})
			done := make(chan struct{})
			defer close(done)
			go func() {
				for _, b := range message(string(make([]byte, 10_000))) {
					if _, err := theirs.Write([]byte{b}); err != nil {
						return
					}
					select {
					case <-time.After(pause):
					case <-done:
						return
					}
				}
			}()
			begin := time.Now()
			if _, err := r.Next(); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: %v", name, err)
			}
			if d := time.Since(begin); d < 9*time.Second || d > 12*time.Second {
				t.Errorf("%s: closed after %v, want 10 s", name, d)
			}
			ours.Close()
		})
	}
}

// TestNoAllocationPerFrame reads a message of many frames.
func TestNoAllocationPerFrame(t *testing.T) {
	frames := make([]string, 2001)
	for i := range frames {
		frames[i] = "a frame of some bytes"
	}
	data := message(frames...)
	c := &piecewise{size: 1 << 20}
	r := NewReader(c, nil, ReaderOptions{MaxMessage: 1 << 20, MaxFrames: 1 << 20})
	n := testing.AllocsPerRun(100, func() {
		c.data = data
		if got, err := r.Next(); err != nil || len(got) != len(frames) {
			t.Fatal(len(got), err)
		}
	})
	if n > 1 {
		t.Errorf("%v allocations for %d frames", n, len(frames))
	}
}

// TestStopsWithin ends a message that stops in the middle, however fast it began,
// because its memory may be needed elsewhere.
func TestStopsWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		go func() {
			_, _ = theirs.Write(binary.BigEndian.AppendUint64([]byte{flagLong}, 9<<20))
			_, _ = theirs.Write(make([]byte, 8<<20)) // then it stops
		}()
		begin := time.Now()
		r := NewReader(ours, nil, ReaderOptions{MaxMessage: 16 << 20, MaxFrames: 10, Stall: 30 * time.Second})
		_, err := r.Next()
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a message that stops in the middle: %v", err)
		}
		if d, limit := time.Since(begin), 30*time.Second+stepSize/MinRate*time.Second; d > limit {
			t.Errorf("reading ended after %v, want at most %v", d, limit)
		}
		_ = ours.Close()
	})
}
