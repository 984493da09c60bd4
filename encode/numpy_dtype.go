package encode

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/npy"
)

// claim makes sure that each key of a batch has a dtype that fits, and puts the
// batch's bytes into the key's order.
func (n *NumPy[T]) claim(ctx context.Context, op string, batch []partd.Entry) error {
	dtypes, unknown := n.lookUp(batch)
	if len(unknown) > 0 {
		if err := n.findOrSet(ctx, op, unknown, dtypes); err != nil {
			return err
		}
		n.note(unknown, dtypes)
	}
	for i := range batch {
		if d := dtypes[batch[i].Key]; d.Big != n.own.Big {
			d.Swap(batch[i].Value)
		}
	}
	return nil
}

// lookUp returns the dtypes of a batch's keys that are known, and the others.
func (n *NumPy[T]) lookUp(batch []partd.Entry) (dtypes map[string]npy.DType, unknown []string) {
	dtypes = make(map[string]npy.DType, len(batch))
	n.knownMu.Lock()
	defer n.knownMu.Unlock()
	for i := range batch {
		key := batch[i].Key
		if d, ok := n.known[key]; ok {
			dtypes[key] = d
		} else {
			unknown = append(unknown, key)
		}
	}
	return dtypes, unknown
}

// note keeps the dtypes of keys.
func (n *NumPy[T]) note(keys []string, dtypes map[string]npy.DType) {
	n.knownMu.Lock()
	defer n.knownMu.Unlock()
	for _, key := range keys {
		if len(n.known) >= maxKnown {
			clear(n.known)
		}
		n.known[key] = dtypes[key]
	}
}

func (n *NumPy[T]) forget(keys []string) {
	n.knownMu.Lock()
	defer n.knownMu.Unlock()
	for _, key := range keys {
		delete(n.known, key)
	}
}

// findOrSet reads the dtypes of keys, and sets that of a key that has none.
func (n *NumPy[T]) findOrSet(ctx context.Context, op string, keys []string, dtypes map[string]npy.DType) error {
	texts, err := n.dtypeTexts(ctx, keys)
	if err != nil {
		return err
	}
	var missing []string
	for i, key := range keys {
		if len(texts[i]) == 0 {
			missing = append(missing, key)
		} else if dtypes[key], err = n.fit(op, key, texts[i]); err != nil {
			return err
		}
	}
	if len(missing) == 0 {
		return nil
	}
	for _, key := range missing {
		if err := n.setDtype(ctx, op, key); err != nil {
			return err
		}
	}
	// Another process may have set one at the same time, and it may be another.
	if texts, err = n.dtypeTexts(ctx, missing); err != nil {
		return err
	}
	for i, key := range missing {
		if dtypes[key], err = n.fit(op, key, texts[i]); err != nil {
			return err
		}
	}
	return nil
}

// setDtype sets the dtype of a key that had none. Data without a dtype, which
// Python's delete leaves behind, must not become data of this one.
func (n *NumPy[T]) setDtype(ctx context.Context, op, key string) error {
	has, err := hasData(ctx, n.below, key)
	if err != nil {
		return err
	}
	if has {
		// Another process may have set the dtype and appended since.
		texts, err := n.dtypeTexts(ctx, []string{key})
		if err != nil {
			return err
		}
		if len(texts[0]) == 0 {
			return keyError(op, key, errNoDtype)
		}
		return nil
	}
	return partd.SetOnce(ctx, n.below, key+dtypeSuffix, []byte(n.own.String()))
}

var errNoDtype = fmt.Errorf("%w: there is data, and no key %s that says of what type, as Python's delete leaves it behind; Delete removes it", ErrDtype, dtypeSuffix)

func hasData(ctx context.Context, store partd.Partd, key string) (bool, error) {
	r, err := partd.Open(ctx, store, key)
	if err != nil {
		return false, err
	}
	first, err := firstByte(r)
	return len(first) > 0, errors.Join(err, r.Close())
}

func (n *NumPy[T]) dtypeTexts(ctx context.Context, keys []string) ([][]byte, error) {
	names := make([]string, len(keys))
	for i, key := range keys {
		names[i] = key + dtypeSuffix
	}
	return n.below.Get(ctx, names...)
}

// fit returns the dtype of a key to which elements are to be appended.
func (n *NumPy[T]) fit(op, key string, text []byte) (npy.DType, error) {
	d, err := n.parse(text)
	if err == nil && d.Unit != n.own.Unit {
		err = fmt.Errorf("%w: the key holds %s, and %s is written", ErrDtype, d, n.own)
	}
	if err != nil {
		return d, keyError(op, key, err)
	}
	return d, nil
}

// parse returns the dtype that a text stands for, if it is one of T's.
func (n *NumPy[T]) parse(text []byte) (npy.DType, error) {
	d, err := npy.Parse(string(text))
	if err != nil {
		return d, fmt.Errorf("%w: %w", ErrDtype, err)
	}
	if d.Kind != n.own.Kind || d.Size != n.own.Size {
		return d, fmt.Errorf("%w: the key holds %s, and not %T, which is %s", ErrDtype, d, *new(T), n.own)
	}
	return d, nil
}
