package datafile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/apache/arrow-go/v18/parquet"
	pqfile "github.com/apache/arrow-go/v18/parquet/file"
)

// properties have files read page by page: whoever wants a few pages reads no others.
var properties = func() *parquet.ReaderProperties {
	p := parquet.NewReaderProperties(recycled)
	p.BufferedStreamEnabled = true
	return p
}()

// parse opens a file as Parquet. What its end says is kept for others: a file never changes,
// and one that took another's place, as a repaired one does, has another time.
func (s *Scan) parse(name string, in parquet.ReaderAtSeeker) (*pqfile.Reader, error) {
	with := pqfile.WithReadProps(properties)
	key := ""
	if file, ok := in.(fs.File); ok && s.Ends != nil {
		info, err := file.Stat()
		if err != nil {
			return nil, err
		}
		key = fmt.Sprintf("%s %d %d", name, info.Size(), info.ModTime().UnixNano())
		if end, ok := s.Ends.Get(key); ok {
			return pqfile.NewParquetReader(in, with, pqfile.WithMetadata(end))
		}
	}
	if err := checkEnd(in); err != nil {
		return nil, err
	}
	r, err := pqfile.NewParquetReader(in, with)
	if err != nil {
		return nil, err
	}
	end := r.MetaData()
	// An Arrow schema that a writer left would change the types, and is a way to have much
	// memory allocated.
	end.FileMetaData.KeyValueMetadata = nil
	if key != "" {
		s.Ends.Put(key, end, 8*int64(end.Size())+1024)
	}
	return r, nil
}

// checkEnd looks at what the end of a file claims to have, as far as it is one.
func checkEnd(in parquet.ReaderAtSeeker) error {
	var last [8]byte
	size, err := in.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = in.ReadAt(last[:], max(size-8, 0))
	}
	if err != nil && err != io.EOF {
		return err
	}
	length := int64(binary.LittleEndian.Uint32(last[:]))
	if from := size - 8 - length; from > 0 && string(last[4:]) == "PAR1" && !fits(in, from, int(length)) {
		return errors.New("its end claims to have more than its bytes: the file is damaged")
	}
	return nil
}

// claims is what is left of a value in Thrift's compact form. The library makes room for as
// many elements of a list as the list claims to have, before it looks for them.
type claims []byte

// Kinds of values.
const (
	boolean1  = 1
	boolean2  = 2
	byte1     = 3
	int16s    = 4
	int32s    = 5
	int64s    = 6
	float     = 7
	text      = 8
	list      = 9
	set       = 10
	structure = 12
)

const deepest = 32 // values within values, of which a footer has few

// fits reports whether bytes from one on have a whole structure, lists of which have all the
// elements that they claim.
func fits(in io.ReaderAt, from int64, size int) bool {
	b := make(claims, size)
	if _, err := in.ReadAt(b, from); err != nil {
		return false
	}
	return b.skip(structure, 0)
}

func (c *claims) take(n uint64) bool {
	if n > uint64(len(*c)) {
		return false
	}
	*c = (*c)[n:]
	return true
}

func (c *claims) head() (b byte, ok bool) {
	if len(*c) > 0 {
		b = (*c)[0]
	}
	return b, c.take(1)
}

func (c *claims) number() (uint64, bool) {
	n, size := binary.Uvarint(*c)
	return n, size > 0 && c.take(uint64(size))
}

func (c *claims) skip(kind byte, depth int) bool {
	if depth > deepest {
		return false
	}
	switch kind {
	case boolean1, boolean2: // the kind is the value
		return true
	case byte1:
		return c.take(1)
	case int16s, int32s, int64s:
		_, ok := c.number()
		return ok
	case float:
		return c.take(8)
	case text:
		n, ok := c.number()
		return ok && c.take(n)
	case list, set:
		return c.elements(depth)
	case structure:
		for {
			head, ok := c.head()
			if !ok || head == 0 {
				return ok
			}
			if head>>4 == 0 { // the field's number follows
				_, ok = c.number()
			}
			if !ok || !c.skip(head&15, depth+1) {
				return false
			}
		}
	}
	return false
}

func (c *claims) elements(depth int) bool {
	head, ok := c.head()
	n, kind := uint64(head>>4), head&15
	if ok && n == 15 {
		n, ok = c.number()
	}
	if !ok || n > uint64(len(*c)) {
		return false
	}
	if kind == boolean1 || kind == boolean2 {
		return c.take(n)
	}
	for range n {
		if !c.skip(kind, depth+1) {
			return false
		}
	}
	return true
}
