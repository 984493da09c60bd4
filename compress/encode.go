package compress

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"

	"github.com/go-partd/partd/frame"
)

// compress appends a value to dst, compressed and framed. An empty value needs no frame; a value
// longer than s.limit needs several.
func (s *Store) compress(_ context.Context, _ string, dst, value []byte) (_ []byte, err error) {
	for len(value) > 0 {
		content := value[:min(int64(len(value)), s.limit)]
		value = value[len(content):]
		start := len(dst)
		dst, err = s.codec.encode(frame.Begin(dst), content)
		if err != nil {
			return nil, err
		}
		dst = frame.End(dst, start)
	}
	return dst, nil
}

// packer compresses pieces. It reuses the writers of a compression library.
type packer struct {
	newWriter func() (pieceWriter, error)
	pool      sync.Pool // holds pieceWriters
}

type pieceWriter interface {
	io.WriteCloser
	Reset(w io.Writer)
}

func (p *packer) encode(dst, src []byte) ([]byte, error) {
	w, _ := p.pool.Get().(pieceWriter)
	if w == nil {
		var err error
		w, err = p.newWriter()
		if err != nil {
			return dst, err
		}
	}
	out := bytes.NewBuffer(dst)
	w.Reset(out)
	_, err := w.Write(src)
	err = errors.Join(err, w.Close())
	if err != nil {
		return dst, err
	}
	w.Reset(nil)
	p.pool.Put(w)
	return out.Bytes(), nil
}
