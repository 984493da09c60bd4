package encode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/npy"
)

// claim makes sure that each key of a batch has a dtype that fits, and puts the
// batch's bytes into the key's order.
func (n *NumPy[T]) claim(ctx context.Context, op string, batch []partd.Entry) error {
	dtypes, unknown := n.lookUp(batch)
	if len(unknown) > 0 {
		if err := n.describe(ctx, op, unknown, func(e partd.Entry, have []byte) (err error) {
			key := strings.TrimSuffix(e.Key, dtypeSuffix)
			dtypes[key], err = n.fit(op, key, have)
			return err
		}); err != nil {
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

// lookUp returns the dtypes of a batch's keys that are known, and what is to be set
// for the others.
func (n *NumPy[T]) lookUp(batch []partd.Entry) (dtypes map[string]npy.DType, unknown []partd.Entry) {
	dtypes = make(map[string]npy.DType, len(batch))
	n.knownMu.Lock()
	defer n.knownMu.Unlock()
	for i := range batch {
		key := batch[i].Key
		if d, ok := n.known[key]; ok {
			dtypes[key] = d
		} else {
			unknown = append(unknown, partd.Entry{Key: key + dtypeSuffix, Value: []byte(n.own.String())})
		}
	}
	return dtypes, unknown
}

func (n *NumPy[T]) note(described []partd.Entry, dtypes map[string]npy.DType) {
	n.knownMu.Lock()
	defer n.knownMu.Unlock()
	for _, e := range described {
		if len(n.known) >= maxKnown {
			clear(n.known)
		}
		key := strings.TrimSuffix(e.Key, dtypeSuffix)
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

// describe sets keys that do not exist, and hands those that do to fit, before and
// after: another process may be first.
func (l layer) describe(ctx context.Context, op string, described []partd.Entry, fit func(e partd.Entry, have []byte) error) error {
	missing, err := l.compare(ctx, described, fit)
	if err != nil || len(missing) == 0 {
		return err
	}
	for _, e := range missing {
		// Data without a dtype, which Python's delete leaves behind, must not become
		// data of this one. Once another process set one and appended, there is no
		// longer a key to be set.
		if name, isDtype := strings.CutSuffix(e.Key, dtypeSuffix); isDtype {
			has, err := hasData(ctx, l.beneath(), name)
			if err != nil {
				return err
			}
			if has {
				if again, err := l.compare(ctx, []partd.Entry{e}, fit); err != nil || len(again) > 0 {
					return cmp.Or(err, keyError(op, name, errNoDtype))
				}
			}
		}
		if err := partd.SetOnce(ctx, l.beneath(), e.Key, e.Value); err != nil {
			return err
		}
	}
	_, err = l.compare(ctx, missing, fit)
	return err
}

// compare hands what keys have to fit, and returns those that do not exist.
func (l layer) compare(ctx context.Context, described []partd.Entry, fit func(e partd.Entry, have []byte) error) (missing []partd.Entry, err error) {
	keys := make([]string, len(described))
	for i, e := range described {
		keys[i] = e.Key
	}
	have, err := l.beneath().Get(ctx, keys...)
	if err != nil {
		return nil, err
	}
	for i, e := range described {
		if len(have[i]) == 0 {
			missing = append(missing, e)
		} else if err := fit(e, have[i]); err != nil {
			return nil, err
		}
	}
	return missing, nil
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
	return n.beneath().Get(ctx, names...)
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
