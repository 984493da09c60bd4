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

	"github.com/go-partd/partd/internal/testutil/must"
)

// piecewise is a connection whose reads return at most size bytes.
type piecewise struct {
	net.Conn
	data []byte
	size int
	last error // error at the end of data; nil means io.EOF
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
	crowded           bool
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

func (a *account) Crowded() bool { return a.crowded }

func (a *account) now() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.used
}

// parse is a simple model of Reader that needs all bytes at once.
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

// FuzzReader checks that Reader returns the messages that parse returns, however the bytes arrive.
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
				t.Fatalf("message %d of %d has %d frames, which is wrong", n, len(wantMessages), len(frames))
			}
			for i := range frames {
				if !bytes.Equal(frames[i], wantMessages[n][i]) {
					t.Fatalf("message %d, frame %d: %q, want %q", n, i, frames[i], wantMessages[n][i])
				}
			}
		}
		if n != len(wantMessages) || ok != (err == io.EOF) || ok && len(commands) != len(wantCommands) {
			t.Fatalf("got %d messages and %d commands, then %v; want %d and %d, complete %v", n, len(commands), err, len(wantMessages), len(wantCommands), ok)
		}
		if limit := int64(3*len(data) + 4*firstGrowth + 200*frameBytes); budget.peak > limit {
			t.Fatalf("reading %d bytes used %d bytes of memory, want at most %d", len(data), budget.peak, limit)
		}
		if r.Close(); budget.used != 0 {
			t.Fatalf("%d bytes of the budget were not released", budget.used)
		}
	})
}

// FuzzNextFrame checks that NextFrame returns the same messages as parse.
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
					t.Fatalf("NextFrame for message %d of %d: %v", n, len(want), err)
				}
				return
			}
			if n >= len(want) || len(want[n]) != 1 || !bytes.Equal(body, want[n][0]) {
				t.Fatalf("message %d: got %d bytes (owned %v), which differ from the frame sent", n, len(body), owned)
			}
		}
	})
}

// TestClaimedLengthsAllocateNothing checks that a short frame that claims to be long uses little memory.
func TestClaimedLengthsAllocateNothing(t *testing.T) {
	budget := &account{}
	data := append(binary.BigEndian.AppendUint64([]byte{2}, 200<<20), make([]byte, 10_000)...)
	r := NewReader(&piecewise{data: data, size: 4096}, nil, ReaderOptions{MaxMessage: 256 << 20, MaxFrames: 10, Budget: budget})
	must.Fail(t, must.Err(r.Next()), io.ErrUnexpectedEOF, "Next of a cut-off message")
	if budget.peak > 1<<20 {
		t.Errorf("%d bytes that claim to be 200 MiB used %d bytes of memory, want at most 1 MiB", len(data), budget.peak)
	}
}

// TestBudgetIsKept checks that Next rejects a message whose bytes or frames exceed the budget.
func TestBudgetIsKept(t *testing.T) {
	for name, data := range map[string][]byte{
		"bytes":        message("k", string(make([]byte, 900_000))),
		"empty frames": bytes.Repeat([]byte{1, 0}, 100_000),
	} {
		budget := &account{limit: 512 << 10}
		r := NewReader(&piecewise{data: data, size: 64 << 10}, nil, ReaderOptions{MaxMessage: 256 << 20, MaxFrames: 1 << 20, Budget: budget})
		must.Fail(t, must.Err(r.Next()), errBudget, "%s: Next", name)
		if r.Close(); budget.used != 0 {
			t.Errorf("%s: %d bytes were not released", name, budget.used)
		}
	}
}

// TestQuietConnection checks that the reader of a quiet connection soon releases its memory.
func TestQuietConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		budget := &account{}
		r := NewReader(ours, nil, ReaderOptions{MaxMessage: 1 << 20, MaxFrames: 10, Budget: budget, Idle: time.Minute, Stall: time.Second})
		go theirs.Write(message(string(make([]byte, 500_000))))
		if _, err := r.Next(); err != nil || budget.used < 500_000 {
			t.Fatalf("Next = %v with %d bytes charged, want at least 500000", err, budget.used)
		}
		begin := time.Now()
		go func() {
			time.Sleep(2 * keepTime)
			if n := budget.now(); n != 0 {
				t.Errorf("%d bytes are still charged to a quiet connection, want none", n)
			}
		}()
		must.Fail(t, must.Err(r.Next()), os.ErrDeadlineExceeded, "Next on a quiet connection")
		if d := time.Since(begin); d < time.Minute || d > time.Minute+2*keepTime {
			t.Errorf("Next timed out after %v, want about a minute", d)
		}
	})
}

// TestKeptBuffer checks that the buffer of a batch is kept for the next message, but not if other readers might need its
// memory.
func TestKeptBuffer(t *testing.T) {
	frame := func(bytes int) string { return string(make([]byte, bytes)) }
	for name, c := range map[string]struct {
		frames   []string
		crowded  bool
		min, max int64
	}{
		"batch":           {[]string{frame(4 << 20)}, false, 4 << 20, maxKeptBatch},
		"crowded":         {[]string{frame(4 << 20)}, true, 0, firstGrowth},
		"larger message":  {[]string{frame(6 << 20)}, false, 0, firstGrowth},
		"several frames":  {[]string{frame(2 << 20), frame(2 << 20)}, false, 0, maxKeptBuffer},
		"several, little": {[]string{frame(100), frame(500_000)}, false, 500_000, maxKeptBuffer},
	} {
		budget := &account{crowded: c.crowded}
		ours, theirs := net.Pipe()
		go func() {
			theirs.Write(message(c.frames...))
			theirs.Write(message("next"))
			theirs.Close()
		}()
		r := NewReader(ours, nil, ReaderOptions{MaxMessage: 10 << 20, MaxFrames: 10, Budget: budget})
		must.Get(r.Next())(t)
		must.Get(r.Next())(t)
		if n := budget.now(); n < c.min || n > c.max {
			t.Errorf("%s: %d bytes are charged after the next message, want %d to %d", name, n, c.min, c.max)
		}
		r.Close()
	}
}

// TestStalledMessages checks that Next fails in time if a message arrives too slowly, or stops, however fast it began,
// because other readers may need its memory.
func TestStalledMessages(t *testing.T) {
	bytewise := func(pause time.Duration) func(w net.Conn) {
		return func(w net.Conn) {
			for _, b := range message(string(make([]byte, 10_000))) {
				if _, err := w.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(pause)
			}
		}
	}
	for name, c := range map[string]struct {
		send     func(w net.Conn)
		min, max time.Duration
	}{
		"silent": {bytewise(time.Hour), 9 * time.Second, 12 * time.Second},
		"slow":   {bytewise(900 * time.Millisecond), 9 * time.Second, 12 * time.Second},
		"stops in the middle": {func(w net.Conn) {
			_, _ = w.Write(binary.BigEndian.AppendUint64([]byte{flagLong}, 9<<20))
			_, _ = w.Write(make([]byte, 8<<20)) // only a part of the message
		}, 0, 10*time.Second + stepSize/MinRate*time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			ours, theirs := net.Pipe()
			defer theirs.Close()
			go c.send(theirs)
			r := NewReader(ours, nil, ReaderOptions{MaxMessage: 16 << 20, MaxFrames: 10, Stall: 10 * time.Second})
			begin := time.Now()
			must.Fail(t, must.Err(r.Next()), os.ErrDeadlineExceeded, "%s: Next", name)
			if d := time.Since(begin); d < c.min || d > c.max {
				t.Errorf("%s: Next timed out after %v, want %v to %v", name, d, c.min, c.max)
			}
			_ = ours.Close()
			time.Sleep(2 * time.Hour) // let the peer's goroutine end
		})
	}
}

// TestNoAllocationPerFrame checks that reading a message of many frames allocates almost nothing.
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
		t.Errorf("Next makes %v allocations for %d frames, want at most 1", n, len(frames))
	}
}
