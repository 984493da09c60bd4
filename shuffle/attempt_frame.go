package shuffle

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/ledger"
)

// controlKey is the key under which the store holds the commits of attempts at
// tasks. Tasks can also append pieces to this key: readers tell the frames apart by kind.
const controlKey = "partd-commits"

// A frame consists of its length, one of these kinds, and content.
const (
	framePiece  = 1
	frameCommit = 2
)

var errFrame = errors.New("the data was not written by a shuffle.Writer")

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func uvarintLen(x uint64) int { return (bits.Len64(x|1) + 6) / 7 }

func textLen(s string) int { return uvarintLen(uint64(len(s))) + len(s) }

// maxPieceHeader is the maximum size of a frame without its piece and the two names.
const maxPieceHeader = 1 + 3*binary.MaxVarintLen64

// appendPiece appends the frame of a piece, the data of an entry. index is the entry's position in
// the batch that an attempt at a task appended.
func appendPiece(dst []byte, task, attempt string, batch, index uint64, piece []byte) []byte {
	size := textLen(task) + textLen(attempt) + uvarintLen(batch) + uvarintLen(index) + len(piece)
	dst = binary.AppendUvarint(dst, uint64(size+1))
	dst = append(dst, framePiece)
	dst = appendText(appendText(dst, task), attempt)
	dst = binary.AppendUvarint(binary.AppendUvarint(dst, batch), index)
	return append(dst, piece...)
}

// fieldReader reads a frame field by field and keeps the first error.
type fieldReader struct {
	unread []byte
	err    error
}

func (c *fieldReader) readText() (b []byte) {
	if c.err == nil {
		b, c.unread, c.err = cut(c.unread)
	}
	return b
}

func (c *fieldReader) readNumber() uint64 {
	n, l := binary.Uvarint(c.unread)
	if l <= 0 {
		c.unread, c.err = nil, cmp.Or(c.err, errFrame)
		return 0
	}
	c.unread = c.unread[l:]
	return n
}

func appendCommit(dst []byte, c Commit) []byte {
	content := appendText(appendText([]byte{frameCommit}, c.Task), c.Attempt)
	for _, n := range []uint64{c.Batches, uint64(c.Records), uint64(c.Bytes)} {
		content = binary.AppendUvarint(content, n)
	}
	content = binary.LittleEndian.AppendUint64(content, c.Sum.Lo)
	content = binary.LittleEndian.AppendUint64(content, c.Sum.Hi)
	return append(binary.AppendUvarint(dst, uint64(len(content))), content...)
}

func parseCommit(frame []byte) (c Commit, err error) {
	fields := fieldReader{unread: frame}
	c = Commit{Task: string(fields.readText()), Attempt: string(fields.readText()), Batches: fields.readNumber()}
	c.Records, c.Bytes = int64(fields.readNumber()), int64(fields.readNumber())
	if len(fields.unread) != 16 {
		return c, cmp.Or(fields.err, errFrame)
	}
	c.Sum = partd.Sum{Hi: binary.LittleEndian.Uint64(fields.unread[8:]), Lo: binary.LittleEndian.Uint64(fields.unread)}
	return c, fields.err
}

// frames divides a key's value, which arrives in chunks, into frames.
type frames struct{ items }

// feed adds a chunk of the value and calls use for each frame that is now complete.
func (f *frames) feed(key string, data []byte, last bool, use func(kind byte, rest []byte) error) error {
	return f.fail(key, f.add(key, data, last, func(_, frame []byte) error {
		if len(frame) == 0 {
			return errFrame
		}
		return use(frame[0], frame[1:])
	}))
}

func (f *frames) fail(key string, err error) error {
	if !errors.Is(err, errFrame) && !errors.Is(err, errEncoding) {
		return err
	}
	return &partd.Error{Op: "read pieces", Key: key, HasKey: true, Err: fmt.Errorf("at byte %d: %w", f.offset, errFrame)}
}

// appendHashed appends the bytes that are hashed for a piece's checksum.
func appendHashed(dst []byte, key string, piece []byte) []byte {
	return append(appendText(dst, key), piece...)
}

// countPiece adds a piece of size bytes to c. hashed is the result of appendHashed.
func countPiece(c *ledger.Count, hashed []byte, size int) {
	c.AddRecord(hashed)
	c.Bytes += int64(size - len(hashed))
}
