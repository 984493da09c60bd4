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

// ensureDtypes sets the dtypes of new keys and checks the dtypes of existing keys. It
// converts the batch's bytes to the byte order of each key.
func (n *NumPy[T]) ensureDtypes(ctx context.Context, op string, batch []partd.Entry) error {
	dtypes, unknown := n.lookUp(batch)
	if len(unknown) > 0 {
		if err := n.describe(ctx, op, unknown, func(e partd.Entry, recorded []byte) (err error) {
			key := strings.TrimSuffix(e.Key, dtypeSuffix)
			dtypes[key], err = n.checkDtype(op, key, recorded)
			return err
		}); err != nil {
			return err
		}
		n.remember(unknown, dtypes)
	}
	for i := range batch {
		if d := dtypes[batch[i].Key]; d.Big != n.own.Big {
			d.Swap(batch[i].Value)
		}
	}
	return nil
}

// lookUp returns the known dtypes of a batch's keys, and dtype entries for its unknown
// keys.
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

func (n *NumPy[T]) remember(described []partd.Entry, dtypes map[string]npy.DType) {
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

// describe sets the described keys that do not exist, and passes the values of those
// that do to check. It checks again after setting, because another process may have set
// them first.
func (l layer) describe(ctx context.Context, op string, described []partd.Entry, check func(e partd.Entry, recorded []byte) error) error {
	missing, err := l.compare(ctx, described, check)
	if err != nil || len(missing) == 0 {
		return err
	}
	for _, e := range missing {
		// Python's delete leaves data without a dtype, which must not get this dtype.
		// But if another process has just set a dtype and appended, nothing is missing.
		if name, isDtype := strings.CutSuffix(e.Key, dtypeSuffix); isDtype {
			exists, err := hasData(ctx, l.innerStore(), name)
			if err != nil {
				return err
			}
			if exists {
				if stillMissing, err := l.compare(ctx, []partd.Entry{e}, check); err != nil || len(stillMissing) > 0 {
					return cmp.Or(err, keyError(op, name, errNoDtype))
				}
			}
		}
		if err := partd.SetOnce(ctx, l.innerStore(), e.Key, e.Value); err != nil {
			return err
		}
	}
	_, err = l.compare(ctx, missing, check)
	return err
}

// compare passes the values of existing keys to check, and returns the entries whose
// keys do not exist.
func (l layer) compare(ctx context.Context, described []partd.Entry, check func(e partd.Entry, recorded []byte) error) (missing []partd.Entry, err error) {
	keys := make([]string, len(described))
	for i, e := range described {
		keys[i] = e.Key
	}
	have, err := l.innerStore().Get(ctx, keys...)
	if err != nil {
		return nil, err
	}
	for i, e := range described {
		if len(have[i]) == 0 {
			missing = append(missing, e)
		} else if err := check(e, have[i]); err != nil {
			return nil, err
		}
	}
	return missing, nil
}

var errNoDtype = fmt.Errorf("%w: there is data without a key %s (Python's delete leaves such data): call Delete to remove it", ErrDtype, dtypeSuffix)

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
	return n.innerStore().Get(ctx, names...)
}

// checkDtype returns the dtype of a key, or an error if T cannot be appended to it.
func (n *NumPy[T]) checkDtype(op, key string, text []byte) (npy.DType, error) {
	d, err := n.parse(text)
	if err == nil && d.Unit != n.own.Unit {
		err = fmt.Errorf("%w: the key holds %s, but %s is appended", ErrDtype, d, n.own)
	}
	if err != nil {
		return d, keyError(op, key, err)
	}
	return d, nil
}

// parse parses a dtype, which must be one of T's.
func (n *NumPy[T]) parse(text []byte) (npy.DType, error) {
	d, err := npy.Parse(string(text))
	if err != nil {
		return d, fmt.Errorf("%w: %w", ErrDtype, err)
	}
	if d.Kind != n.own.Kind || d.Size != n.own.Size {
		return d, fmt.Errorf("%w: the key holds %s, but %T is %s", ErrDtype, d, *new(T), n.own)
	}
	return d, nil
}
