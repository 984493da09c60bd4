package remote

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"github.com/go-partd/partd"
)

// textOf returns b as a string without copying it. b must not change while the string is in use.
func textOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

var errShort = errors.New("the message is incomplete")

// decoder decodes a message. After an error, its methods return zero values.
type decoder struct {
	b         []byte
	err       error
	allowance *allowance // charged for the memory of decoded slices; may be nil
}

func (d *decoder) take(n uint64) []byte {
	if d.err != nil || n > uint64(len(d.b)) {
		d.fail(errShort)
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.b = nil
}

func (d *decoder) number(n uint64) []byte {
	if v := d.take(n); v != nil {
		return v
	}
	return zeros[:n]
}

var zeros [8]byte

func (d *decoder) u8() uint8   { return d.number(1)[0] }
func (d *decoder) u16() uint16 { return binary.LittleEndian.Uint16(d.number(2)) }
func (d *decoder) u32() uint32 { return binary.LittleEndian.Uint32(d.number(4)) }
func (d *decoder) u64() uint64 { return binary.LittleEndian.Uint64(d.number(8)) }
func (d *decoder) bool() bool  { return d.u8() == 1 }

func (d *decoder) token() (t partd.SessionToken) {
	copy(t[:], d.take(uint64(len(t))))
	return t
}

func (d *decoder) remaining() []byte { return d.take(uint64(len(d.b))) }

// end returns an error if bytes remain.
func (d *decoder) end() error {
	if d.err == nil && len(d.b) > 0 {
		d.err = fmt.Errorf("%d extra bytes", len(d.b))
	}
	return d.err
}

// count reads the number of items that follow. minSize is the minimum length of an encoded item, with
// which count rejects an impossible number before the caller allocates memory. itemMemory is the size
// of a decoded item, which can be much larger. count charges the memory of all items to the allowance.
func (d *decoder) count(minSize, itemMemory int) int {
	n := d.u32()
	if uint64(n)*uint64(minSize) > uint64(len(d.b)) {
		d.fail(errShort)
		return 0
	}
	if d.allowance != nil {
		if err := d.allowance.raise(int64(n) * int64(itemMemory)); err != nil {
			d.fail(err)
			return 0
		}
	}
	return int(n)
}

// Memory of decoded items, in bytes.
const (
	entryMemory = int(unsafe.Sizeof(partd.Entry{}))
	keyMemory   = 64 // an estimate: a string header and a short key
)

const entryHeaderLen = 2 + 4

// entries decodes entries and appends them to dst[:0]. The keys and values are not copied: they point
// into the message.
func (d *decoder) entries(dst []partd.Entry) []partd.Entry {
	n := d.count(entryHeaderLen, entryMemory)
	b := d.b
	dst = dst[:0]
	for range n {
		if len(b) < entryHeaderLen {
			d.fail(errShort)
			return nil
		}
		k := int(binary.LittleEndian.Uint16(b))
		v := uint64(binary.LittleEndian.Uint32(b[2:]))
		b = b[entryHeaderLen:]
		if uint64(k)+v > uint64(len(b)) {
			d.fail(errShort)
			return nil
		}
		end := k + int(v)
		dst = append(dst, partd.Entry{Key: textOf(b[:k]), Value: b[k:end:end]})
		b = b[end:]
	}
	d.b = b
	return dst
}

func (d *decoder) keys() []string {
	n := d.count(2, keyMemory)
	if n == 0 {
		return nil
	}
	keys := make([]string, 0, n)
	for range n {
		keys = append(keys, d.key())
	}
	return keys
}

func (d *decoder) key() string { return string(d.take(uint64(d.u16()))) }

func (d *decoder) text() string { return string(d.take(uint64(d.u32()))) }

func appendKey(b []byte, key string) []byte {
	return append(binary.LittleEndian.AppendUint16(b, uint16(len(key))), key...)
}

func appendKeys(b []byte, keys []string) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(keys)))
	for _, k := range keys {
		b = appendKey(b, k)
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(s))), s...)
}
