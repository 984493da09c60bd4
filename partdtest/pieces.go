package partdtest

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/go-partd/partd"
)

// Concurrent writers append numbered pieces. A piece contains its writer's number and its own number,
// and its length depends on both. The checks can therefore tell the pieces of a value apart and detect
// missing, repeated, torn or misplaced pieces.

type piece struct{ writer, number int }

const pieceHeaderLen = len("[00 000000 ")

func (p piece) bytes() []byte {
	b := fmt.Appendf(nil, "[%02d %06d ", p.writer, p.number)
	for range (p.writer*31 + p.number*17) % 90 {
		b = append(b, 'a'+byte(p.number%26))
	}
	return append(b, ']')
}

func (p piece) entry(key string) partd.Entry { return partd.Entry{Key: key, Value: p.bytes()} }

func parsePieces(value []byte) ([]piece, error) {
	var pieces []piece
	for remaining := value; len(remaining) > 0; {
		if len(remaining) <= pieceHeaderLen {
			return nil, tornError(value, remaining)
		}
		w, err1 := strconv.Atoi(string(remaining[1:3]))
		n, err2 := strconv.Atoi(string(remaining[4:10]))
		p := piece{w, n}
		if err1 != nil || err2 != nil || !bytes.HasPrefix(remaining, p.bytes()) {
			return nil, tornError(value, remaining)
		}
		remaining = remaining[len(p.bytes()):]
		pieces = append(pieces, p)
	}
	return pieces, nil
}

func tornError(value, remaining []byte) error {
	offset := len(value) - len(remaining)
	return fmt.Errorf("byte %d of %d does not begin a whole append: %q", offset, len(value), value[max(0, offset-20):min(len(value), offset+60)])
}

// checkSequence checks that each writer's pieces are numbered consecutively and returns each
// writer's next number. If fromStart is true, the first number must be 0.
func checkSequence(pieces []piece, fromStart bool) (map[int]int, error) {
	nextNumbers := map[int]int{}
	for _, p := range pieces {
		want, seen := nextNumbers[p.writer]
		if !seen && !fromStart {
			want = p.number
		}
		switch {
		case p.number > want:
			return nil, fmt.Errorf("writer %d: found append %d, want %d: an append is lost or out of order", p.writer, p.number, want)
		case p.number < want:
			return nil, fmt.Errorf("writer %d: append %d comes after %d: it is repeated or out of order", p.writer, p.number, want-1)
		}
		nextNumbers[p.writer] = p.number + 1
	}
	return nextNumbers, nil
}

// parsePart parses a value that may lack its first pieces. Each writer's numbers must be consecutive.
func parsePart(value []byte) ([]piece, error) {
	pieces, err := parsePieces(value)
	if err != nil {
		return pieces, err
	}
	_, err = checkSequence(pieces, false)
	return pieces, err
}

// checkPieces checks that a value consists of whole pieces, numbered from 0 for each writer. It returns
// each writer's next number.
func checkPieces(label string, value []byte) (map[int]int, error) {
	pieces, err := parsePieces(value)
	if err == nil {
		var next map[int]int
		next, err = checkSequence(pieces, true)
		if err == nil {
			return next, nil
		}
	}
	return nil, fmt.Errorf("%s: %w", label, err)
}
