package remote

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress"
	"github.com/go-partd/partd/internal/server/zmtp"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/storekit"
)

func TestInvalidPythonRequests(t *testing.T) {
	for _, c := range []struct {
		name   string
		frames []string
	}{
		{"append without a value", []string{"append", "k"}},
		{"append with one value for two keys", []string{"append", "k", "v", "k2"}},
		{"iset with 1 frame", []string{"iset", "k"}},
		{"iset with 3 frames", []string{"iset", "k", "v", "x"}},
		{"unknown command", []string{"explode", "k"}},
		{"beginning of a command", []string{"appen", "k", "v"}},
		{"command with a trailing space", []string{"append ", "k", "v"}},
		{"empty command", []string{"", "k", "v"}},
		{"empty message", []string{""}},
		{"close without the right", []string{"close"}},
		{"drop with a key", []string{"drop", "k"}},
		{"key too long", []string{"append", "k", "v", strings.Repeat("k", partd.MaxKeyLen+1), "v"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := partd.NewDict()
			s, url := serve(t, store, nil)
			p := openPeer(t, url)
			p.send(message(c.frames...))
			p.wantError()
			if st := must.Get(store.Stat(context.Background()))(t); st.Keys > 0 {
				t.Errorf("the invalid request changed the store: %+v", st)
			}
			p.send(message("syn"))
			p.wantBytes(acked)
			select {
			case <-s.CloseRequested():
				t.Error("the request made the server stop")
			default:
			}
		})
	}
}

// TestPythonMessageTooLarge checks that a change over the limit is read, discarded and
// answered with an error, and that the connection stays usable. An endless message ends
// the connection. So does a get that is too large, because its client would mistake an error for a
// value.
func TestPythonMessageTooLarge(t *testing.T) {
	opts := &ServerOptions{MaxMessage: minMessage, StallTimeout: 2 * time.Second}
	value := strings.Repeat("v", 200_000)
	moreFrame := func(frame string) []byte { return zmtp.AppendFrame(nil, []byte(frame), true) }
	t.Run("large changes", func(t *testing.T) {
		store := partd.NewDict()
		s, url := serve(t, store, opts)
		p := openPeer(t, url)
		ping := zmtp.AppendCommand(nil, "PING", []byte{0, 0})
		for _, large := range [][]byte{
			message("append", "k", strings.Repeat("v", 3*(minMessage+messageOverhead)-2000)),
			message("append", "k", value, "k2", value, "k3", value),
			joinBytes(moreFrame("append"), moreFrame("k"), moreFrame(value), moreFrame("k2"), moreFrame(value), ping, message("k3", "")),
			message("iset", "k", strings.Repeat("v", minMessage+messageOverhead)),
			message("delete", value, value),
		} {
			p.send(large, message("append", "small", "v"))
			p.wantError()
			p.wantBytes(acked)
		}
		if v := must.Get(store.Get(t.Context(), "k", "k2", "small"))(t); strings.Join(toStrings(v), "") != "vvvvv" {
			t.Errorf("the store has %.100q, want only the small values", v)
		}
		p.send(message("get", "small"))
		p.wantBytes(joinBytes(message("vvvvv"), acked))
		if used := s.memoryUsed(); used > 256<<10 {
			t.Errorf("%d bytes of memory are still in use, want at most 256 KiB", used)
		}
	})
	for name, large := range map[string][]byte{
		"get":             message("get", value, value),
		"endless frame":   joinBytes(moreFrame("append"), longHeader(0, 1<<62)),
		"many frames":     message("append", "k", value, "k", value, "k", value, "k", value, "k", value),
		"truncated":       message("append", "k", value, "k", value, "k", value)[:400_000],
		"unknown command": message("appendix", value, value),
		"large command":   message(strings.Repeat("append", 60_000), "k", value),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, url := serve(t, partd.NewDict(), opts)
			p := openPeer(t, url)
			go p.Write(large) // fails if the server closes the connection
			p.wantClosed()
		})
	}
}

// TestPythonWithoutMemory checks that a change gets an answer even if the server has no memory for it.
func TestPythonWithoutMemory(t *testing.T) {
	s, url := serve(t, partd.NewDict(), &ServerOptions{StallTimeout: 500 * time.Millisecond})
	giveBack := takeAll(t, s)
	p := openPeer(t, url)
	p.send(message("append", "k", strings.Repeat("v", 100_000)))
	p.wantError()
	giveBack()
	p.send(message("append", "k", "v"), message("get", "k"))
	p.wantBytes(joinBytes(acked, message("v"), acked))
}

// replacingStore is a store that replaces a value once a reader of the value has read more than threshold
// bytes, or has reached the end of the value.
type replacingStore struct {
	partd.Partd
	threshold int
	value     []byte // the new value; nil once it is stored
}

func (s *replacingStore) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	r, err := partd.Open(ctx, s.Partd, key)
	if err != nil {
		return nil, err
	}
	watched := &replacingReader{ReadCloser: r, s: s, key: key}
	if _, ok := r.(storekit.Rewinder); ok {
		return &rewindableReader{watched}, nil
	}
	return watched, nil
}

// replacingReader is a reader of a replacingStore.
type replacingReader struct {
	io.ReadCloser
	s   *replacingStore
	key string
	n   int // bytes read
}

func (r *replacingReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if r.n += n; r.s.value != nil && (err == io.EOF || r.n > r.s.threshold) {
		value := r.s.value
		r.s.value = nil
		if err := errors.Join(partd.Delete(ctx, r.s.Partd, r.key), r.s.Append(ctx, partd.Entry{Key: r.key, Value: value})); err != nil {
			return 0, err
		}
	}
	return n, err
}

type rewindableReader struct{ *replacingReader }

func (r *rewindableReader) Rewind() error { return r.ReadCloser.(storekit.Rewinder).Rewind() }

// TestPythonGetIsOneSnapshot checks that an answer never mixes an old and a new value, even if a
// large value is replaced while its length is being determined.
func TestPythonGetIsOneSnapshot(t *testing.T) {
	ctx := t.Context()
	const size = defaultPage + 1<<20
	for name, open := range map[string]func(t *testing.T) partd.Partd{
		"file": stores["file"],
		"log":  stores["log"],
		"zstd+log": func(t *testing.T) partd.Partd {
			return must.Get(compress.New(stores["log"](t), compress.Zstd, nil))(t)
		},
		"dict":   stores["dict"], // its readers cannot rewind
		"buffer": stores["buffer"],
		"chain": func(t *testing.T) partd.Partd {
			_, url := serve(t, stores["log"](t), nil)
			return dial(t, url, nil)
		},
	} {
		for label, threshold := range map[string]int{"early": 1, "at its end": 1 << 60} {
			t.Run(name+"/"+label, func(t *testing.T) {
				oldValue, newValue := bytes.Repeat([]byte("o"), size), bytes.Repeat([]byte("n"), 2*size)
				store := &replacingStore{open(t), threshold, newValue}
				must.Do(t, store.Append(ctx, partd.Entry{Key: "k", Value: oldValue}))
				_, url := serve(t, store, nil)
				p := openPeer(t, url)
				p.send(message("get", "k", "none", "k"))
				// The first value is the whole old value, and the last is the whole new value.
				p.wantBytes(joinBytes(message(string(oldValue), "x")[:9+size], message("", string(newValue)), acked))
			})
		}
	}
}
