package remote

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/storekit"
)

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
		ctx := context.Background()
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
