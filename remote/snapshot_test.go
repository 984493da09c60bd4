package remote

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress"
)

// replaced is a store whose value is replaced by a longer one after its reader was read
// to the end, or to some point.
type replaced struct {
	partd.Partd
	after int
	value []byte
}

func (s *replaced) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	r, err := partd.Open(ctx, s.Partd, key)
	if err != nil {
		return nil, err
	}
	watch := &replacing{ReadCloser: r, s: s, key: key}
	if _, ok := r.(partd.Rewinder); ok {
		return &rewound{watch}, nil
	}
	return watch, nil
}

type replacing struct {
	io.ReadCloser
	s   *replaced
	key string
	got int
}

func (r *replacing) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if r.got += n; r.s.value != nil && (err == io.EOF || r.got > r.s.after) {
		value := r.s.value
		r.s.value = nil
		ctx := context.Background()
		if err := errors.Join(partd.Delete(ctx, r.s.Partd, r.key), r.s.Append(ctx, partd.Entry{Key: r.key, Value: value})); err != nil {
			return 0, err
		}
	}
	return n, err
}

type rewound struct{ *replacing }

func (r *rewound) Rewind() error { return r.ReadCloser.(partd.Rewinder).Rewind() }

// TestPythonGetIsOneSnapshot checks that an answer never contains a part of an append,
// even if a large value is replaced while its length is being determined.
func TestPythonGetIsOneSnapshot(t *testing.T) {
	ctx := t.Context()
	const size = defaultPage + 1<<20
	for name, open := range map[string]func(t *testing.T) partd.Partd{
		"file": stores["file"],
		"log":  stores["log"],
		"zstd+log": func(t *testing.T) partd.Partd {
			s, err := compress.New(stores["log"](t), compress.Zstd, nil)
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		"dict":   stores["dict"], // its readers cannot rewind
		"buffer": stores["buffer"],
		"chain": func(t *testing.T) partd.Partd {
			_, url := serve(t, stores["log"](t), nil)
			return dial(t, url, nil)
		},
	} {
		for label, after := range map[string]int{"early": 1, "at its end": 1 << 60} {
			t.Run(name+"/"+label, func(t *testing.T) {
				old, young := bytes.Repeat([]byte("o"), size), bytes.Repeat([]byte("n"), 2*size)
				store := &replaced{open(t), after, young}
				must(t, store.Append(ctx, partd.Entry{Key: "k", Value: old}))
				_, url := serve(t, store, nil)
				p := openPeer(t, url)
				p.send(message("get", "k", "none", "k"))
				// The first value is the whole old value, the last the whole new one.
				p.wantBytes(joinBytes(message(string(old), "x")[:9+size], message("", string(young)), acked))
			})
		}
	}
}
