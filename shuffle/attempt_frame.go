package shuffle

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/ledger"
)

// ControlKey is the key that holds what attempts committed, and the list of tasks.
// It may have pieces like any other: what is in a key says itself what it is.
const ControlKey = "partd-commits"

// What a frame is.
const (
	framePiece  = 1
	frameCommit = 2
	frameTasks  = 3
	frameClosed = 4
)

var errFrame = errors.New("it holds what no shuffle.Writer wrote")

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func uvarintLen(x uint64) int {
	n := 1
	for ; x >= 0x80; x >>= 7 {
		n++
	}
	return n
}

func textLen(s string) int { return uvarintLen(uint64(len(s))) + len(s) }

// appendPiece appends the frame of a piece, which is entry index of a batch.
func appendPiece(dst []byte, task, attempt string, batch, index uint64, piece []byte) []byte {
	size := textLen(task) + textLen(attempt) + uvarintLen(batch) + uvarintLen(index) + len(piece)
	dst = binary.AppendUvarint(dst, uint64(size+1))
	dst = append(dst, framePiece)
	dst = appendText(appendText(dst, task), attempt)
	dst = binary.AppendUvarint(binary.AppendUvarint(dst, batch), index)
	return append(dst, piece...)
}

// pieceFrame is the frame of a piece, and lies in what was read.
type pieceFrame struct {
	task, attempt []byte
	batch, index  uint64
	piece         []byte
}

func (p *pieceFrame) parse(frame []byte) (err error) {
	if p.task, frame, err = cut(frame); err != nil {
		return err
	}
	if p.attempt, frame, err = cut(frame); err != nil {
		return err
	}
	if p.batch, frame, err = cutNumber(frame); err != nil {
		return err
	}
	p.index, p.piece, err = cutNumber(frame)
	return err
}

func cutNumber(data []byte) (n uint64, rest []byte, err error) {
	n, l := binary.Uvarint(data)
	if l <= 0 {
		return 0, nil, errFrame
	}
	return n, data[l:], nil
}

// appendCommit appends the frame of a commit.
func appendCommit(dst []byte, c Commit) []byte {
	var rest []byte
	rest = appendText(appendText(rest, c.Task), c.Attempt)
	for _, n := range []uint64{c.Batches, uint64(c.Records), uint64(c.Bytes)} {
		rest = binary.AppendUvarint(rest, n)
	}
	rest = binary.LittleEndian.AppendUint64(rest, c.Sum[1])
	rest = binary.LittleEndian.AppendUint64(rest, c.Sum[0])
	return appendControl(dst, frameCommit, rest)
}

// appendControl appends a frame for the control key.
func appendControl(dst []byte, kind byte, content []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(content)+1))
	return append(append(dst, kind), content...)
}

func parseCommit(frame []byte) (c Commit, err error) {
	task, frame, err := cut(frame)
	if err != nil {
		return c, err
	}
	attempt, frame, err := cut(frame)
	if err != nil {
		return c, err
	}
	var numbers [3]uint64
	for i := range numbers {
		if numbers[i], frame, err = cutNumber(frame); err != nil {
			return c, err
		}
	}
	if len(frame) != 16 {
		return c, errFrame
	}
	c = Commit{Task: string(task), Attempt: string(attempt), Batches: numbers[0]}
	c.Records, c.Bytes = int64(numbers[1]), int64(numbers[2])
	c.Sum = [2]uint64{binary.LittleEndian.Uint64(frame[8:]), binary.LittleEndian.Uint64(frame)}
	return c, nil
}

// frames cuts the value of a key, which comes in chunks, into frames.
type frames struct {
	carry  []byte // the beginning of a frame
	offset int64  // of what is next
}

// feed takes a chunk, and calls use for each frame that is whole.
func (f *frames) feed(key string, data []byte, last bool, use func(kind byte, rest []byte) error) error {
	if len(f.carry) > 0 {
		f.carry = append(f.carry, data...)
		data = f.carry
	}
	for len(data) > 0 {
		n, l := binary.Uvarint(data)
		if l < 0 || l > 0 && (n == 0 || n > partd.MaxValueLen) {
			return f.fail(key, errFrame)
		}
		if l == 0 || n > uint64(len(data)-l) {
			break
		}
		end := l + int(n)
		if err := use(data[l], data[l+1:end:end]); err != nil {
			return f.fail(key, err)
		}
		data = data[end:]
		f.offset += int64(end)
	}
	if last && len(data) > 0 {
		return f.fail(key, errFrame)
	}
	if len(data) != len(f.carry) { // else it is all there, and copying it for each chunk takes for ever
		f.carry = append(f.carry[:0], data...)
	}
	return nil
}

// fail says where in a value a frame is damaged.
func (f *frames) fail(key string, err error) error {
	if !errors.Is(err, errFrame) && !errors.Is(err, errEncoding) {
		return err
	}
	return &partd.Error{Op: "read pieces", Key: key, HasKey: true, Err: fmt.Errorf("at byte %d: %w", f.offset, errFrame)}
}

// appendHashed appends what is hashed of a piece for the sum.
func appendHashed(dst []byte, key string, piece []byte) []byte {
	return append(appendText(dst, key), piece...)
}

// countPiece counts a piece of so many bytes, of which hashed is what is hashed.
func countPiece(c *ledger.Count, hashed []byte, size int) {
	c.AddRecord(hashed)
	c.Bytes += int64(size - len(hashed))
}
