package encode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/pyvalue/npy"
)

// ensureDtypes sets the dtypes of a batch's new keys and checks the dtypes of its existing
// keys. It also converts the batch's values to the keys' byte orders.
func (n *NumPy[T]) ensureDtypes(ctx context.Context, op string, batch []partd.Entry) error {
	dtypes, uncached := n.lookUp(batch)
	if len(uncached) > 0 {
		if err := n.setMissing(ctx, op, uncached, func(e partd.Entry, recorded []byte) (err error) {
			key := strings.TrimSuffix(e.Key, dtypeSuffix)
			dtypes[key], err = n.checkDtype(op, key, recorded)
			return err
		}); err != nil {
			return err
		}
		n.cacheDtypes(uncached, dtypes)
	}
	for i := range batch {
		if d := dtypes[batch[i].Key]; d.Big != n.dtype.Big {
			d.Swap(batch[i].Value)
		}
	}
	return nil
}

// lookUp returns the cached dtypes of a batch's keys. For each key K without a cached dtype,
// it returns an entry that would set K.dtype to n's dtype.
func (n *NumPy[T]) lookUp(batch []partd.Entry) (dtypes map[string]npy.DType, uncached []partd.Entry) {
	dtypes = make(map[string]npy.DType, len(batch))
	n.cacheMu.Lock()
	defer n.cacheMu.Unlock()
	for i := range batch {
		key := batch[i].Key
		if d, ok := n.cachedDtypes[key]; ok {
			dtypes[key] = d
		} else {
			uncached = append(uncached, partd.Entry{Key: key + dtypeSuffix, Value: []byte(n.dtype.String())})
		}
	}
	return dtypes, uncached
}

func (n *NumPy[T]) cacheDtypes(entries []partd.Entry, dtypes map[string]npy.DType) {
	n.cacheMu.Lock()
	defer n.cacheMu.Unlock()
	for _, e := range entries {
		if len(n.cachedDtypes) >= maxCachedDtypes {
			clear(n.cachedDtypes)
		}
		key := strings.TrimSuffix(e.Key, dtypeSuffix)
		n.cachedDtypes[key] = dtypes[key]
	}
}

func (n *NumPy[T]) uncacheDtypes(keys []string) {
	n.cacheMu.Lock()
	defer n.cacheMu.Unlock()
	for _, key := range keys {
		delete(n.cachedDtypes, key)
	}
}

// setMissing sets those keys of entries that do not exist yet. It passes the values of
// existing keys to check. Another process may set a key at the same time, so setMissing
// also checks the keys that it has set.
func (w wrapper) setMissing(ctx context.Context, op string, entries []partd.Entry, check func(e partd.Entry, recorded []byte) error) error {
	missing, err := w.checkExisting(ctx, entries, check)
	if err != nil || len(missing) == 0 {
		return err
	}
	for _, e := range missing {
		// Python's delete can leave data without a dtype. Do not set a dtype for such data, because
		// the data may have another dtype. But before returning an error, check again: after the
		// first check, another process may have set a dtype and appended.
		if name, isDtype := strings.CutSuffix(e.Key, dtypeSuffix); isDtype {
			exists, err := hasData(ctx, w.innerStore(), name)
			if err != nil {
				return err
			}
			if exists {
				if stillMissing, err := w.checkExisting(ctx, []partd.Entry{e}, check); err != nil || len(stillMissing) > 0 {
					return cmp.Or(err, keyError(op, name, errNoDtype))
				}
			}
		}
		if err := partd.SetOnce(ctx, w.innerStore(), e.Key, e.Value); err != nil {
			return err
		}
	}
	_, err = w.checkExisting(ctx, missing, check)
	return err
}

// checkExisting passes the values of existing keys to check and returns the entries
// whose keys do not exist.
func (w wrapper) checkExisting(ctx context.Context, entries []partd.Entry, check func(e partd.Entry, recorded []byte) error) (missing []partd.Entry, err error) {
	keys := make([]string, len(entries))
	for i, e := range entries {
		keys[i] = e.Key
	}
	values, err := w.innerStore().Get(ctx, keys...)
	if err != nil {
		return nil, err
	}
	for i, e := range entries {
		if len(values[i]) == 0 {
			missing = append(missing, e)
		} else if err := check(e, values[i]); err != nil {
			return nil, err
		}
	}
	return missing, nil
}

var errNoDtype = fmt.Errorf("%w: the key holds data, but its %s key is missing (Python's delete leaves such keys): call Delete to remove the data", ErrDtype, dtypeSuffix)

func hasData(ctx context.Context, store partd.Partd, key string) (bool, error) {
	r, err := partd.Open(ctx, store, key)
	if err != nil {
		return false, err
	}
	n, err := io.ReadFull(r, make([]byte, 1))
	if err == io.EOF {
		err = nil
	}
	return n > 0, errors.Join(err, r.Close())
}

// checkDtype parses the dtype of a key. It returns an error if T cannot be appended to
// the key.
func (n *NumPy[T]) checkDtype(op, key string, text []byte) (npy.DType, error) {
	d, err := n.parseDtype(text)
	if err == nil && d.Unit != n.dtype.Unit {
		err = fmt.Errorf("%w: the key holds %s, and %s cannot be appended to it", ErrDtype, d, n.dtype)
	}
	if err != nil {
		return d, keyError(op, key, err)
	}
	return d, nil
}

// parseDtype parses a dtype. It returns an error unless the dtype has T's kind and size.
func (n *NumPy[T]) parseDtype(text []byte) (npy.DType, error) {
	d, err := npy.Parse(string(text))
	if err != nil {
		return d, fmt.Errorf("%w: %w", ErrDtype, err)
	}
	if d.Kind != n.dtype.Kind || d.Size != n.dtype.Size {
		return d, fmt.Errorf("%w: the key holds %s, but %T is %s", ErrDtype, d, *new(T), n.dtype)
	}
	return d, nil
}
