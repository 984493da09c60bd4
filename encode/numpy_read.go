package encode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/frame"
	"github.com/go-partd/partd/internal/npy"
)

// Get returns the array of each key, in the order requested. A key that does not
// exist has an empty array. The arrays belong to the caller.
func (n *NumPy[T]) Get(ctx context.Context, keys ...string) ([][]T, error) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	for _, key := range keys {
		if err := checkKey("get", key); err != nil {
			return nil, err
		}
	}
	// Get the data before the dtypes. Appends write in the opposite order, so all data
	// read here has a dtype.
	stored, err := n.innerStore().Get(ctx, keys...)
	if err != nil {
		return nil, err
	}
	dtypes, err := n.getDtypes(ctx, keys)
	if err != nil {
		return nil, err
	}
	return n.decodeAll("get", keys, stored, dtypes)
}

func (n *NumPy[T]) decodeAll(op string, keys []string, stored, dtypes [][]byte) ([][]T, error) {
	arrays := make([][]T, len(keys))
	for i, key := range keys {
		d, err := n.dtypeOf(stored[i], dtypes[i])
		if err == nil && len(stored[i]) > 0 {
			arrays[i], err = n.decode(d, stored[i])
		}
		if err != nil {
			return nil, keyError(op, key, err)
		}
	}
	return arrays, nil
}

// dtypeOf parses the dtype of data. If the key has neither data nor a dtype, dtypeOf returns
// n.dtype.
func (n *NumPy[T]) dtypeOf(data, text []byte) (npy.DType, error) {
	if len(text) == 0 {
		if len(data) > 0 {
			return npy.DType{}, errNoDtype
		}
		return n.dtype, nil
	}
	return n.parseDtype(text)
}

func (n *NumPy[T]) decode(d npy.DType, data []byte) ([]T, error) {
	if d.Kind != 'O' {
		if excess := len(data) % d.Size; excess != 0 {
			return nil, partialElementError(d, int64(len(data)), excess)
		}
		return fixedArray[T](d, data)
	}
	return decodeLists(data, objectArray[T])
}

func partialElementError(d npy.DType, size int64, excess int) error {
	return &DecodeError{size - int64(excess), fmt.Errorf("%d bytes are not a multiple of %d, the size of an element of %s", size, d.Size, d)}
}

const chunkLen = 64 << 10 // read size of All; must be a multiple of every element's size

// All yields the array of a key in parts: the strings of one append, or up to 64 KiB of
// any other elements. It holds one part at a time, so a key may be larger than memory. All
// stops after the first error.
func (n *NumPy[T]) All(ctx context.Context, key string) iter.Seq2[[]T, error] {
	return func(yield func([]T, error) bool) {
		r, d, err := n.open(ctx, key)
		if err != nil {
			yield(nil, err)
			return
		}
		isStopped := false
		emit := func(elements []T) bool {
			isStopped = !yield(elements, nil)
			return !isStopped
		}
		if d.Kind == 'O' {
			err = eachPiece(frame.Read(r, partd.MaxValueLen), objectArray[T], emit)
		} else {
			err = eachChunk(r, d, emit)
		}
		if err = errors.Join(err, r.Close()); err != nil && !isStopped {
			yield(nil, keyError("all", key, err))
		}
	}
}

func (n *NumPy[T]) open(ctx context.Context, key string) (io.ReadCloser, npy.DType, error) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if err := checkKey("all", key); err != nil {
		return nil, npy.DType{}, err
	}
	r, err := partd.Open(ctx, n.innerStore(), key)
	if err != nil {
		return nil, npy.DType{}, err
	}
	texts, err := n.getDtypes(ctx, []string{key})
	if err != nil {
		return nil, npy.DType{}, errors.Join(err, r.Close())
	}
	firstBytes, err := firstByte(r)
	if err != nil {
		return nil, npy.DType{}, errors.Join(keyError("all", key, err), r.Close())
	}
	d, err := n.dtypeOf(firstBytes, texts[0])
	if err != nil {
		return nil, npy.DType{}, errors.Join(keyError("all", key, err), r.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(firstBytes), r), r}, d, nil
}

// firstByte returns the first byte of r, or nil if r is at its end.
func firstByte(r io.Reader) ([]byte, error) {
	b := make([]byte, 1)
	if _, err := io.ReadFull(r, b); err == io.EOF {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return b, nil
}

func eachChunk[T Element](r io.Reader, d npy.DType, emit func([]T) bool) error {
	buf := make([]byte, chunkLen)
	for offset := int64(0); ; {
		n, err := io.ReadFull(r, buf)
		if err == io.EOF {
			return nil
		}
		if err != nil && err != io.ErrUnexpectedEOF {
			return err
		}
		if excess := n % d.Size; excess != 0 {
			return partialElementError(d, offset+int64(n), excess)
		}
		elements, decodeErr := fixedArray[T](d, buf[:n])
		if decodeErr != nil {
			return &DecodeError{offset, decodeErr}
		}
		if !emit(elements) || err != nil {
			return nil
		}
		offset += int64(n)
	}
}
