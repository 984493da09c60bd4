package compress

import (
	"bytes"
	"errors"
	"io"
	"sync"
)

// packer compresses pieces by writers of a library that are used again.
type packer struct {
	open func() (pieceWriter, error) // makes a writer
	pool sync.Pool                   // of pieceWriter
}

// pieceWriter is what writers of several formats can do.
type pieceWriter interface {
	io.WriteCloser
	Reset(w io.Writer)
}

func (p *packer) encode(dst, src []byte) ([]byte, error) {
	w, _ := p.pool.Get().(pieceWriter)
	if w == nil {
		var err error
		if w, err = p.open(); err != nil {
			return dst, err
		}
	}
	out := bytes.NewBuffer(dst)
	w.Reset(out)
	_, err := w.Write(src)
	if err = errors.Join(err, w.Close()); err != nil {
		return dst, err
	}
	w.Reset(nil)
	p.pool.Put(w)
	return out.Bytes(), nil
}
