package compress

import (
	"cmp"
	"fmt"
	"io"

	"github.com/dsnet/compress/bzip2"
)

type bz2Codec struct {
	streamer
	level   int
	packers [10]packer // one for each level
}

func newBZ2(o *Options, limit int64) (codec, error) {
	c := &bz2Codec{level: cmp.Or(o.Level, 9)}
	c.limit = limit
	for level := range c.packers {
		c.packers[level].newWriter = func() (pieceWriter, error) {
			w, err := bzip2.NewWriter(nil, &bzip2.WriterConfig{Level: level})
			return bz2Writer{w}, err
		}
	}
	c.newReader = func(src io.Reader) (io.Reader, func() error, error) {
		r := &bz2Reader{}
		return r, func() error { return r.restart(src) }, nil
	}
	return c, nil
}

// encode uses the lowest level whose block size is enough for src, even if run-length encoding
// turns every four bytes into five. The block size is 100,000 bytes times the level. A higher level
// would only make readers use more memory.
func (c *bz2Codec) encode(dst, src []byte) ([]byte, error) {
	return c.packers[min(c.level, 1+len(src)/80_000)].encode(dst, src)
}

type bz2Writer struct{ *bzip2.Writer }

func (w bz2Writer) Reset(out io.Writer) { _ = w.Writer.Reset(out) } // always returns nil

type bz2Reader struct {
	reader *bzip2.Reader
	atEnd  bool // the reader reached the end, so it can be reused
}

// restart prepares r for reading another piece. It replaces a library reader that has not
// reached its end, because Reset would leave old data in it.
func (r *bz2Reader) restart(src io.Reader) error {
	if !r.atEnd {
		r.reader = new(bzip2.Reader)
	}
	r.atEnd = false
	return r.reader.Reset(src)
}

func (r *bz2Reader) Read(dst []byte) (n int, err error) {
	// The library panics on damaged data and recovers these panics itself. Any other
	// panic also means that the data is damaged.
	defer func() {
		if p := recover(); p != nil {
			n, err = 0, fmt.Errorf("damaged bzip2 data: %v", p)
		}
		r.atEnd = err == io.EOF
	}()
	return r.reader.Read(dst)
}
