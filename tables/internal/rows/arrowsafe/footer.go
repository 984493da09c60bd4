package arrowsafe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Limits of a Parquet file's footer. They bound the memory of arrow-go, which reads the levels of the schema
// recursively and stores the path of each column as a string.
const (
	maxFooter = maxDescription // bytes of the footer, and of all column paths together
	maxNodes  = 2 * maxFields  // nodes of the schema; a list has one node more than in Arrow
	maxLevels = 4 * maxNested  // levels of the schema; a list has two levels
)

var errFooter = errors.New("its footer claims more data than it contains: the file is damaged")

// Thrift field IDs of Parquet's FileMetaData, SchemaElement and PageHeader, and a few of their values.
const (
	pageType       = 1
	pageSize       = 2
	pageCompressed = 3
	dataPageHead   = 5
	dataPageHeadV2 = 8
	dataPage       = 0 // a pageType
	dictionaryPage = 2 // a pageType
	dataPageV2     = 3 // a pageType
	rle            = 3 // an encoding
	footerSchema   = 2
	nodeName       = 4
	nodeChildren   = 5
	nodeLogical    = 10
	logicalUnset   = 9  // reserved in the union of logical types
	maxLogical     = 18 // number of the last logical type that arrow-go knows (18.8)
)

// Footer returns a Parquet file's footer and the file's size. The footer is nil if the file has none. Footer checks
// that the footer is complete, and that its schema is within the limits above. In the result, logical types that
// arrow-go does not know are hidden, so that arrow-go uses the physical types.
func Footer(in interface {
	io.ReaderAt
	io.Seeker
},
) (whole []byte, size int64, err error) {
	var last [8]byte
	size, err = in.Seek(0, io.SeekEnd)
	if err == nil {
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
	footer := unreadThrift(whole)
	if !footer.eachField(func(id int16, kind byte) bool {
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

type group struct {
	unread  int // number of children that have not been read yet; they follow the group in the list of nodes
	pathLen int // length of the group's path, in bytes
}

func (c *unreadThrift) schema() error {
	n, kind, ok := c.listHeader()
	if !ok || kind != structure {
		return errFooter
	}
	if n > maxNodes {
		return fmt.Errorf("its schema has %d nodes; the limit is %d", n, maxNodes)
	}
	var open []group
	paths, missing := 0, 0 // total length of paths, and number of unread children in open groups
	for i := range int(n) {
		for len(open) > 0 && open[len(open)-1].unread == 0 {
			open = open[:len(open)-1]
		}
		path, children, ok := c.node()
		if len(open) > 0 {
			parent := &open[len(open)-1]
			parent.unread--
			missing--
			path += parent.pathLen + 1
		}
		missing += int(children)
		if !ok || children < 0 || missing >= int(n)-i { // int(n)-i-1 nodes follow
			return errFooter
		}
		if children == 0 {
			paths += path
		} else {
			open = append(open, group{int(children), path})
			if len(open) > maxLevels {
				return fmt.Errorf("its schema has more than %d levels at node %d of %d", maxLevels, i+1, n)
			}
		}
		if paths > maxFooter {
			return fmt.Errorf("the paths of its columns have more than %d bytes", maxFooter)
		}
	}
	return nil
}

// node reads a node and returns the length of its name and the number of its children. It hides a logical type that
// arrow-go does not know.
func (c *unreadThrift) node() (name int, children int32, ok bool) {
	original := *c
	ok = c.eachField(func(id int16, kind byte) bool {
		before, ok := len(*c), false
		switch {
		case id == nodeChildren && kind == int32s:
			children, ok = c.varint32()
			return ok
		case id == nodeName && kind == text:
			ok = c.skip(kind, 0)
			name = before - len(*c)
			return ok
		case id == nodeLogical && kind == structure:
			known := false
			ok = c.eachField(func(id int16, kind byte) bool {
				known = id > 0 && id <= maxLogical && id != logicalUnset
				return c.skip(kind, 3)
			})
			if head := &original[len(original)-before-1]; !known && *head&15 == structure {
				*head += 1 << 4 // hide the field: change its ID to the next ID, which is unassigned
			} else if !known { // the ID has its own byte, zigzag-encoded: adding 2 there increases the ID by 1
				*head += 2
			}
			return ok
		}
		return c.skip(kind, 2)
	})
	return name, children, ok
}

// unreadThrift is the unread part of a value in Thrift's compact protocol. The lengths in a value must be checked
// before the Thrift library gets it, because the library allocates a list before it reads the elements.
type unreadThrift []byte

// Kinds of Thrift values.
const (
	booleanTrue  = 1
	booleanFalse = 2
	byteKind     = 3
	int16s       = 4
	int32s       = 5
	int64s       = 6
	float        = 7
	text         = 8
	list         = 9
	set          = 10
	structure    = 12
)

const maxThrift = 32 // maximum depth of nested values; real footers have few levels

// Whole reports whether the size bytes at offset from begin with a complete Thrift structure.
func Whole(in io.ReaderAt, from int64, size int) bool {
	b := make(unreadThrift, size)
	if _, err := in.ReadAt(b, from); err != nil {
		return false
	}
	return b.skip(structure, 0)
}

// Page describes a page according to its header.
type Page struct {
	IsDictionary           bool
	Size, Values, Encoding int32 // Size is the number of bytes after decompression
	// IsFlat means that the page is a data page with Size bytes in the file, and one value or null per row. Its body,
	// at Offset in the file, begins with Levels bytes of levels. For version 1 pages, Levels is -1, and the body gives
	// their length.
	IsFlat bool
	Offset int64
	Levels int32
}

// Pages calls visit for each page in a range of a Parquet file, until visit returns false. It returns false if a header
// is incomplete, or if arrow-go could take other bytes for the next header.
func Pages(in io.ReaderAt, from, to int64, visit func(Page) bool) bool {
	for from < to {
		p, length, ok := pageAt(in, from)
		if !ok {
			return false
		}
		if !visit(p) {
			return true
		}
		from += length
	}
	return true
}

// pageAt reads the header at an offset and returns the length of the page and its header in the file.
func pageAt(in io.ReaderAt, offset int64) (p Page, length int64, ok bool) {
	const minHeader, maxHeader = 64, 4 << 20 // bytes; arrow-go has the same maximum
	for size := minHeader; !ok && size <= maxHeader; size *= 16 {
		b := make(unreadThrift, size)
		n, _ := in.ReadAt(b, offset) // the rest of the file may be shorter
		b = b[:n]
		p, length, ok = b.page()
		if ok {
			p.Offset = offset + int64(n-len(b))
			length += int64(n - len(b))
		} else if n < size {
			break
		}
	}
	return p, length, ok
}

// page reads a page's header and returns the length of the page without the header.
func (c *unreadThrift) page() (p Page, length int64, ok bool) {
	kind, compressed, isStored := int32(-1), int32(0), false
	var heads [2]struct {
		numbers [7]int32 // by field ID
		known   int      // bit i says whether numbers[i] is present
	}
	ok = c.eachField(func(id int16, fieldKind byte) (ok bool) {
		switch {
		case id == pageType && fieldKind == int32s:
			kind, ok = c.varint32()
		case id == pageSize && fieldKind == int32s:
			p.Size, ok = c.varint32()
		case id == pageCompressed && fieldKind == int32s:
			compressed, ok = c.varint32()
		case (id == dataPageHead || id == dataPageHeadV2) && fieldKind == structure:
			head := &heads[0]
			if id == dataPageHeadV2 {
				head = &heads[1]
			}
			ok = c.eachField(func(id int16, fieldKind byte) (ok bool) {
				if id > 0 && int(id) < len(head.numbers) && fieldKind == int32s {
					head.known |= 1 << id
					head.numbers[id], ok = c.varint32()
					return ok
				}
				isStored = isStored || id == 7 && fieldKind == booleanFalse // is_compressed of a data page V2
				return c.skip(fieldKind, 2)
			})
		default:
			ok = c.skip(fieldKind, 1)
		}
		return ok
	})
	switch kind {
	case dictionaryPage:
		p.IsDictionary = true
	case dataPage:
		n := heads[0].numbers // 1 to 4: values, and encodings of the values, definition and repetition levels
		p.Values, p.Encoding, p.Levels = n[1], n[2], -1
		p.IsFlat = heads[0].known == 0b11110 && n[3] == rle && compressed == p.Size
	case dataPageV2:
		n := heads[1].numbers // 1 to 6: values, nulls, rows, encoding, bytes of definition and repetition levels
		p.Values, p.Encoding, p.Levels = n[1], n[4], n[5]
		p.IsFlat = heads[1].known == 0b1111110 && n[3] == n[1] && n[5] >= 0 && n[6] == 0 && compressed == p.Size
		ok = ok && (!isStored || compressed == p.Size)
	default:
		ok = false
	}
	return p, int64(compressed), ok && compressed >= 0 && p.Size >= 0 && p.Values >= 0
}

// MayBeDictionary reports whether the page at an offset in a Parquet file may be a dictionary page. If the page's
// header is damaged, it returns true.
func MayBeDictionary(in io.ReaderAt, offset int64) bool {
	p, _, ok := pageAt(in, offset)
	return !ok || p.IsDictionary
}

// take skips n bytes, or returns false if fewer remain.
func (c *unreadThrift) take(n uint64) bool {
	if n > uint64(len(*c)) {
		return false
	}
	*c = (*c)[n:]
	return true
}

func (c *unreadThrift) readByte() (b byte, ok bool) {
	if len(*c) > 0 {
		b = (*c)[0]
	}
	return b, c.take(1)
}

func (c *unreadThrift) uvarint() (uint64, bool) {
	n, size := binary.Uvarint(*c)
	return n, size > 0 && c.take(uint64(size))
}

func (c *unreadThrift) varint32() (int32, bool) {
	n, ok := c.uvarint()
	return int32(uint32(n)>>1) ^ -int32(n&1), ok
}

// skip skips a value at the given nesting depth. It returns false if the value is incomplete or nested too deeply.
func (c *unreadThrift) skip(kind byte, depth int) bool {
	if depth > maxThrift {
		return false
	}
	switch kind {
	case booleanTrue, booleanFalse: // the kind is the value
		return true
	case byteKind:
		return c.take(1)
	case int16s, int32s, int64s:
		_, ok := c.uvarint()
		return ok
	case float:
		return c.take(8)
	case text:
		n, ok := c.uvarint()
		return ok && c.take(n)
	case list, set:
		return c.skipElements(depth)
	case structure:
		return c.eachField(func(_ int16, kind byte) bool { return c.skip(kind, depth+1) })
	}
	return false
}

// eachField calls value with the ID and the kind of each field of a structure. value must read or skip the
// field's value. If value returns false or the structure is incomplete, eachField returns false.
func (c *unreadThrift) eachField(value func(id int16, kind byte) bool) bool {
	for id := int16(0); ; {
		head, ok := c.readByte()
		if !ok || head == 0 {
			return ok
		}
		id += int16(head >> 4)
		if head>>4 == 0 { // the ID follows as a separate number
			var n int32
			n, ok = c.varint32()
			id = int16(n)
		}
		if !ok || !value(id, head&15) {
			return false
		}
	}
}

func (c *unreadThrift) skipElements(depth int) bool {
	n, kind, ok := c.listHeader()
	if ok && (kind == booleanTrue || kind == booleanFalse) {
		return c.take(n)
	}
	for ; ok && n > 0; n-- {
		ok = c.skip(kind, depth+1)
	}
	return ok
}

// listHeader returns the number and kind of a list's elements. ok is false if fewer bytes than elements remain.
func (c *unreadThrift) listHeader() (n uint64, kind byte, ok bool) {
	head, ok := c.readByte()
	n = uint64(head >> 4)
	if ok && n == 15 {
		n, ok = c.uvarint()
	}
	return n, head & 15, ok && n <= uint64(len(*c))
}
