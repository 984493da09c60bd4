package encode

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/frame"
	"github.com/go-partd/partd/internal/pyvalue/npy"
	"github.com/go-partd/partd/internal/pyvalue/pickle"
)

// PandasColumns stores DataFrames as Python's partd.PandasColumns does: each column is an
// array under its own key, so columns can be read selectively. As in Python, key
// K-|-NAME holds column NAME of key K. The index, the columns' names and the index's
// name are stored like columns called .index, .columns and .index-name.
//
// PandasColumns rejects [Texts], [Categorical] and times with a zone, because Python's
// class fails on them or drops the zone. It is safe for concurrent use.
type PandasColumns struct {
	wrapper
	objects ValueCodec[[]any]
}

// NewPandasColumns returns a store of DataFrames over p, which must support Set. o
// describes the Python that will read the data; nil means that msgpack is not installed there.
func NewPandasColumns(p partd.Partd, o *PandasOptions) *PandasColumns {
	s := &PandasColumns{wrapper{p}, Pickle()}
	if o != nil && o.Msgpack {
		s.objects = Python()
	}
	return s
}

// Append adds each entry's rows to its key. If the key exists, the rows must have its
// columns and types. Append is all or nothing, except that a failed Append may leave the
// names and dtypes of new keys.
func (s *PandasColumns) Append(ctx context.Context, entries ...Entry[DataFrame]) error {
	var arrays, descriptions []partd.Entry
	for _, e := range entries {
		d, err := e.Value.withIndex()
		if err != nil {
			return keyError("append", e.Key, err)
		}
		names := make([]any, len(d.Columns))
		usedKeys := map[string]bool{columnKey(e.Key, ".columns"): true, columnKey(e.Key, ".index-name"): true}
		for i, c := range append(d.Columns[:len(d.Columns):len(d.Columns)], Column{".index", d.Index.Values}) {
			array, dtype, err := s.encodeColumn(e.Key, c)
			if err == nil && (usedKeys[array.Key] || usedKeys[dtype.Key]) {
				err = errors.New("another column has the same key")
			}
			usedKeys[array.Key], usedKeys[dtype.Key] = true, true
			if err != nil {
				return keyError("append", e.Key, fmt.Errorf("column %v: %w", c.Name, err))
			}
			arrays, descriptions = append(arrays, array), append(descriptions, dtype)
			if i < len(names) {
				names[i] = c.Name
			}
		}
		for suffix, v := range map[string]any{".columns": names, ".index-name": d.Index.Name} {
			pickled, err := pickle.Append(nil, v)
			if err != nil {
				return keyError("append", e.Key, err)
			}
			descriptions = append(descriptions, partd.Entry{Key: columnKey(e.Key, suffix), Value: pickled})
		}
	}
	if err := s.setMissing(ctx, "append", descriptions, func(e partd.Entry, recorded []byte) error {
		if stored, appended := decodeDescription(recorded), decodeDescription(e.Value); !reflect.DeepEqual(stored, appended) {
			return keyError("append", e.Key, fmt.Errorf("%w: the key holds %v, and %v cannot be appended to it", ErrDtype, stored, appended))
		}
		return nil
	}); err != nil {
		return err
	}
	return s.innerStore().Append(ctx, arrays...)
}

func (s *PandasColumns) encodeColumn(key string, c Column) (elements, dtype partd.Entry, err error) {
	if r, ok := c.Values.(Range); ok {
		c.Values, err = r.numbers()
		if err != nil {
			return elements, dtype, err
		}
	}
	switch name := c.Name.(type) {
	case string, int, int64:
	default:
		return elements, dtype, fmt.Errorf("its name is a %T: use text or an integer", name)
	}
	stored, err := encodeValues(c.Values)
	if err != nil {
		return elements, dtype, err
	}
	if stored.pandasDtype != nil || stored.categories != nil {
		return elements, dtype, fmt.Errorf("PandasColumns does not support %s", typeName(c.Values))
	}
	elements.Key = columnKey(key, c.Name)
	dtype = partd.Entry{Key: elements.Key + dtypeSuffix, Value: []byte(stored.dtype.String())}
	if stored.appendTo != nil {
		elements.Value = stored.appendTo(nil)
		return elements, dtype, nil
	}
	list, err := s.objects.Encode(frame.Begin(nil), stored.objects)
	if err != nil {
		return elements, dtype, err
	}
	elements.Value = frame.End(list, 0)
	return elements, dtype, nil
}

func columnKey(key string, name any) string { return fmt.Sprint(key, "-|-", name) }

// decodeDescription decodes a pickled value or a dtype, to compare it with another.
func decodeDescription(data []byte) any {
	if v, err := pickle.Decode(data); err == nil {
		return v
	}
	d, err := npy.Parse(string(data))
	return [2]any{d, err}
}

// Get returns the DataFrame of a key with the named columns, or with all columns if names
// is empty. If the key does not exist, Get returns an empty DataFrame.
func (s *PandasColumns) Get(ctx context.Context, key string, names ...any) (d DataFrame, err error) {
	metadata, err := s.innerStore().Get(ctx, columnKey(key, ".columns"), columnKey(key, ".index-name"))
	if err != nil || len(metadata[0]) == 0 {
		return d, err
	}
	columnNames, err := decodeList("pickle", pickle.Decode, metadata[0])
	if err == nil {
		d.Index.Name, err = pickle.Decode(metadata[1])
	}
	if err != nil {
		return d, keyError("get", key, err)
	}
	if len(names) == 0 {
		names = columnNames
	}
	keys := []string{columnKey(key, ".index"), columnKey(key, ".index") + dtypeSuffix}
	requested := map[string]bool{}
	for _, name := range names {
		err := checkName(name)
		if err == nil && requested[columnKey(key, name)] {
			err = fmt.Errorf("column %v is requested twice", name)
		}
		if err != nil {
			return d, keyError("get", key, err)
		}
		requested[columnKey(key, name)] = true
		keys = append(keys, columnKey(key, name), columnKey(key, name)+dtypeSuffix)
	}
	data, err := s.innerStore().Get(ctx, keys...)
	if err != nil {
		return d, err
	}
	for i := 0; i < len(data); i += 2 {
		values, err := decodeColumn(string(data[i+1]), data[i])
		if err != nil {
			return d, keyError("get", keys[i], err)
		}
		if i == 0 {
			d.Index.Values = values
		} else {
			d.Columns = append(d.Columns, Column{names[i/2-1], values})
		}
	}
	d, err = d.withIndex()
	if err != nil {
		return d, keyError("get", key, err)
	}
	return d, nil
}

func decodeColumn(dtype string, data []byte) (any, error) {
	if dtype == "" {
		return nil, errors.New("the column does not exist")
	}
	d, err := npy.Parse(dtype)
	if err != nil {
		return nil, err
	}
	a := array{dtype: d, data: data}
	if d.Kind == 'O' {
		a.objects, err = decodeLists(data, Python().Decode)
		if err != nil {
			return nil, err
		}
	}
	return a.column(0, 1)
}

// Drop removes every key from the underlying store.
func (s *PandasColumns) Drop(ctx context.Context) error { return s.innerStore().Drop(ctx) }
