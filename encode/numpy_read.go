package encode

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/frame"
	"github.com/go-partd/partd/internal/pyvalue/npy"
)

// Get returns the array of each key, in the order requested. A key that does not
// exist has an empty array. The arrays belong to the caller.
func (n *NumPy[T]) Get(ctx context.Context, keys ...string) ([][]T, error) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	allKeys, err := withDtypes("get", keys)
	if err != nil {
		return nil, err
	}
	// Get the data before the dtypes. Appends write in the opposite order, so all data
	// read here has a dtype.
	stored, err := n.innerStore().Get(ctx, keys...)
	if err != nil {
		return nil, err
	}
	dtypes, err := n.innerStore().Get(ctx, allKeys[len(keys):]...)
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
		emit := func(elements []T) bool { return yield(elements, nil) }
		if d.Kind == 'O' {
			err = eachPiece(frame.Read(r, partd.MaxValueLen), objectArray[T], emit)
		} else {
			err = eachChunk(r, d, emit)
		}
		err = errors.Join(err, r.Close())
		if err != nil && !errors.Is(err, errStopped) {
			yield(nil, keyError("all", key, err))
		}
	}
}

func (n *NumPy[T]) open(ctx context.Context, key string) (_ io.ReadCloser, d npy.DType, err error) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if err := checkKey("all", key); err != nil {
		return nil, d, err
	}
	r, err := partd.Open(ctx, n.innerStore(), key)
	if err != nil {
		return nil, d, err
	}
	texts, err := n.innerStore().Get(ctx, key+dtypeSuffix)
	if err != nil {
		return nil, d, errors.Join(err, r.Close())
	}
	b := bufio.NewReader(r)
	head, err := b.Peek(1)
	if err == nil || err == io.EOF {
		d, err = n.dtypeOf(head, texts[0])
	}
	if err != nil {
		return nil, d, errors.Join(keyError("all", key, err), r.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{b, r}, d, nil
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
		if !emit(elements) {
			return errStopped
		}
		if err != nil { // r is at its end
			return nil
		}
		offset += int64(n)
	}
}
