package arrowsafe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Bounds of a Parquet file's footer. arrow-go follows the levels of its schema recursively, and stores
// the path of each column as a text.
const (
	maxFooter = maxDescription // bytes, also of all paths together
	maxNodes  = 2 * maxFields  // a list has a node more than in Arrow
	maxLevels = 4 * maxNested  // a list has two levels
)

var errFooter = errors.New("its end claims to have more than its bytes: the file is damaged")

// Numbers of the fields of Parquet's FileMetaData, SchemaElement and PageHeader, and a value of the
// last.
const (
	pageType       = 1
	dictionaryPage = 2
	footerSchema   = 2
	nodeName       = 4
	nodeChildren   = 5
	nodeLogical    = 10
	logicalUnset   = 9  // reserved in the union of logical types
	maxLogical     = 18 // number of the last logical type that arrow-go knows (18.8)
)

// Footer returns a Parquet file's footer, or nil if it has none, and the file's size. It checks that the
// footer's lists have all the elements that they claim, and that the schema is within bounds. Logical types that
// arrow-go does not know are hidden from it, because readers must use the physical types then.
func Footer(in interface {
	io.ReaderAt
	io.Seeker
},
) (whole []byte, size int64, err error) {
	var last [8]byte
	if size, err = in.Seek(0, io.SeekEnd); err == nil {
		_, err = in.ReadAt(last[:], max(size-8, 0))
	}
	if err != nil && err != io.EOF {
		return nil, 0, err
	}
	length := int64(binary.LittleEndian.Uint32(last[:]))
	from := size - 8 - length
	if from <= 0 || string(last[4:]) != "PAR1" {
		return nil, 0, nil
	}
	if length > maxFooter {
		return nil, 0, fmt.Errorf("its footer has %d bytes; the limit is %d", length, maxFooter)
	}
	whole = make([]byte, length)
	if _, err := in.ReadAt(whole, from); err != nil {
		return nil, 0, err
	}
	err = nil
	footer := claims(whole)
	if !footer.fields(func(id int16, kind byte) bool {
		if id == footerSchema && kind == list && err == nil {
			err = footer.schema()
			return err == nil
		}
		return footer.skip(kind, 1)
	}) && err == nil {
		err = errFooter
	}
	return whole, size, err
}

// group is a group of a Parquet schema whose children follow.
type group struct {
	children int // not read yet
	path     int // its length
}

// schema checks the list of a schema's nodes. Each group is followed by its children.
func (c *claims) schema() error {
	n, kind, ok := c.list()
	if !ok || kind != structure {
		return errFooter
	}
	if n > maxNodes {
		return fmt.Errorf("its schema has %d nodes; the limit is %d", n, maxNodes)
	}
	var open []group
	paths, missing := 0, 0 // missing: children of all open groups
	for i := range int(n) {
		for len(open) > 0 && open[len(open)-1].children == 0 {
			open = open[:len(open)-1]
		}
		path, children, ok := c.node()
		if len(open) > 0 {
			parent := &open[len(open)-1]
			parent.children--
			missing--
			path += parent.path + 1
		}
		if missing += int(children); !ok || children < 0 || missing >= int(n)-i {
			return errFooter
		}
		if children == 0 {
			paths += path
		} else if open = append(open, group{int(children), path}); len(open) > maxLevels {
			return fmt.Errorf("its schema has more than %d levels at node %d of %d", maxLevels, i+1, n)
		}
		if paths > maxFooter {
			return fmt.Errorf("the paths of its columns have more than %d bytes", maxFooter)
		}
	}
	return nil
}

// node returns the length of a node's name, and the number of its children.
func (c *claims) node() (name int, children int32, ok bool) {
	whole := *c
	ok = c.fields(func(id int16, kind byte) bool {
		before, ok := len(*c), false
		switch {
		case id == nodeChildren && kind == int32s:
			children, ok = c.signed()
			return ok
		case id == nodeName && kind == text:
			ok = c.skip(kind, 0)
			name = before - len(*c)
			return ok
		case id == nodeLogical && kind == structure:
			known := false
			ok = c.fields(func(id int16, kind byte) bool {
				known = id > 0 && id <= maxLogical && id != logicalUnset
				return c.skip(kind, 3)
			})
			if head := &whole[len(whole)-before-1]; !known && *head&15 == structure {
				*head += 1 << 4 // the next number, which has no meaning
			} else if !known { // the number is in full
				*head += 2
			}
			return ok
		}
		return c.skip(kind, 2)
	})
	return name, children, ok
}

// claims is the unread rest of a value in Thrift's compact form. The library allocates the claimed
// length of a list before it reads the elements, so the claims are checked first.
type claims []byte

// Kinds of Thrift values.
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

const maxThrift = 32 // nested values; footers have few levels

// Whole reports whether the bytes at an offset are a whole Thrift structure whose lists have all the
// elements that they claim.
func Whole(in io.ReaderAt, from int64, size int) bool {
	b := make(claims, size)
	if _, err := in.ReadAt(b, from); err != nil {
		return false
	}
	return b.skip(structure, 0)
}

// MayBeDictionary reports whether the page at an offset of a Parquet file is a dictionary, or has a
// header that is too long to tell.
func MayBeDictionary(in io.ReaderAt, at int64) bool {
	header := make(claims, 512)
	n, _ := in.ReadAt(header, at) // the file may end before
	header = header[:n]
	kind := int32(-1)
	whole := header.fields(func(id int16, of byte) (ok bool) {
		if id == pageType && of == int32s {
			kind, ok = header.signed()
			return ok
		}
		return header.skip(of, 1)
	})
	return !whole || kind == dictionaryPage
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

func (c *claims) signed() (int32, bool) {
	n, ok := c.number()
	return int32(uint32(n)>>1) ^ -int32(n&1), ok
}

func (c *claims) skip(kind byte, depth int) bool {
	if depth > maxThrift {
		return false
	}
	switch kind {
	case boolean1, boolean2: // the kind contains the value
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
		return c.fields(func(_ int16, kind byte) bool { return c.skip(kind, depth+1) })
	}
	return false
}

// fields passes the number and the kind of each field of a structure to value, which must skip the
// field's value.
func (c *claims) fields(value func(id int16, kind byte) bool) bool {
	for id := int16(0); ; {
		head, ok := c.head()
		if !ok || head == 0 {
			return ok
		}
		if id += int16(head >> 4); head>>4 == 0 { // the number follows in full
			var n int32
			n, ok = c.signed()
			id = int16(n)
		}
		if !ok || !value(id, head&15) {
			return false
		}
	}
}

func (c *claims) elements(depth int) bool {
	n, kind, ok := c.list()
	if ok && (kind == boolean1 || kind == boolean2) {
		return c.take(n)
	}
	for ; ok && n > 0; n-- {
		ok = c.skip(kind, depth+1)
	}
	return ok
}

// list returns the claimed length of a list, which is at most the number of bytes left.
func (c *claims) list() (n uint64, kind byte, ok bool) {
	head, ok := c.head()
	if n = uint64(head >> 4); ok && n == 15 {
		n, ok = c.number()
	}
	return n, head & 15, ok && n <= uint64(len(*c))
}
