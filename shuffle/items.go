package shuffle

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/go-partd/partd"
)

// items divides a key's value, which arrives in chunks, into items. Each item is preceded by its
// length, as a uvarint.
type items struct {
	carry  []byte // the beginning of an incomplete item
	offset int64  // offset of the next item in the value
}

// add adds a chunk of the value and calls use for each item that is now complete. item is the
// length with the content, and content is only the content.
func (s *items) add(key string, data []byte, last bool, use func(item, content []byte) error) error {
	if len(s.carry) > 0 {
		s.carry = append(s.carry, data...)
		data = s.carry
	}
	for len(data) > 0 {
		n, l := binary.Uvarint(data)
		if l < 0 || n > partd.MaxValueLen {
			return s.damaged(key)
		}
		if l == 0 || n > uint64(len(data)-l) {
			break
		}
		end := l + int(n)
		if err := use(data[:end], data[l:end:end]); err != nil {
			return err
		}
		data = data[end:]
		s.offset += int64(end)
	}
	if last && len(data) > 0 {
		return s.damaged(key)
	}
	// If the lengths are equal, carry already equals data. Copying all of data for every chunk would
	// take quadratic time.
	if len(data) != len(s.carry) {
		s.carry = append(s.carry[:0], data...)
	}
	return nil
}

func (s *items) damaged(key string) error {
	return &partd.Error{Op: "read records", Key: key, HasKey: true, Err: fmt.Errorf("at byte %d: %w", s.offset, errEncoding)}
}

// reset prepares for the value of another key.
func (s *items) reset() { s.carry, s.offset = s.carry[:0], 0 }

// readValue calls handle for each chunk of the value of a key.
func readValue(ctx context.Context, store partd.Partd, key string, handle func(data []byte, last bool) error) (err error) {
	r, err := partd.Open(ctx, store, key)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		atEnd := err == io.EOF
		if err != nil && !atEnd {
			return err
		}
		if err := handle(buf[:n], atEnd); err != nil || atEnd {
			return err
		}
	}
}
