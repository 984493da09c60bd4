package shuffle

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"slices"
	"unsafe"
)

// slicePlan returns a plan that writes the length plus one, or 0 for nil, and then the
// elements.
func (b *planner) slicePlan(t reflect.Type) (*plan, error) {
	elem, err := b.plan(t.Elem())
	if err != nil {
		return nil, err
	}
	size := t.Elem().Size()
	return &plan{
		encode: func(dst []byte, p unsafe.Pointer) ([]byte, error) {
			v := reflect.NewAt(t, p).Elem()
			if v.IsNil() {
				return append(dst, 0), nil
			}
			dst = binary.AppendUvarint(dst, uint64(v.Len())+1)
			return elem.encodeElements(dst, v.UnsafePointer(), v.Len(), size)
		},
		decode: func(data []byte, p unsafe.Pointer) ([]byte, error) {
			n, rest, err := elem.length(data, size)
			if n == 0 || err != nil {
				return rest, err
			}
			v := reflect.MakeSlice(t, n-1, n-1)
			reflect.NewAt(t, p).Elem().Set(v)
			return elem.decodeElements(rest, v.UnsafePointer(), n-1, size)
		},
	}, nil
}

// length reads and returns a stored length: the number of elements plus one, or 0 for nil. It also
// returns the bytes after the length. If they cannot contain all elements, it returns an error.
func (p *plan) length(data []byte, size uintptr) (int, []byte, error) {
	n, l := binary.Uvarint(data)
	if l <= 0 {
		return 0, nil, errEncoding
	}
	minSize := uint64(1) // minimum size of an encoded element
	if p.flat {
		minSize = uint64(size)
	}
	rest := data[l:]
	if n > 1 && minSize > 0 && n-1 > uint64(len(rest))/minSize {
		return 0, nil, errEncoding
	}
	if n > 1<<40 { // the check above does not limit elements of size 0
		return 0, nil, errEncoding
	}
	return int(n), rest, nil
}

// pointerPlan returns a plan that writes 0 for nil, or else 1 and the value pointed to.
func (b *planner) pointerPlan(t reflect.Type) (*plan, error) {
	elem, err := b.plan(t.Elem())
	if err != nil {
		return nil, err
	}
	return &plan{
		encode: func(dst []byte, p unsafe.Pointer) ([]byte, error) {
			target := *(*unsafe.Pointer)(p)
			if target == nil {
				return append(dst, 0), nil
			}
			return elem.encode(append(dst, 1), target)
		},
		decode: func(data []byte, p unsafe.Pointer) ([]byte, error) {
			if len(data) == 0 || data[0] > 1 {
				return nil, errEncoding
			}
			if data[0] == 0 {
				return data[1:], nil
			}
			v := reflect.New(t.Elem())
			reflect.NewAt(t, p).Elem().Set(v)
			return elem.decode(data[1:], v.UnsafePointer())
		},
	}, nil
}

// mapPlan returns a plan that writes the length plus one, or 0 for nil, and then keys with
// values, sorted by the encodings of the keys.
func (b *planner) mapPlan(t reflect.Type) (*plan, error) {
	key, err := b.plan(t.Key())
	if err != nil {
		return nil, err
	}
	elem, err := b.plan(t.Elem())
	if err != nil {
		return nil, err
	}
	empty := t.Key().Size()+t.Elem().Size() == 0 // whether an entry's encoding is empty
	return &plan{
		encode: func(dst []byte, p unsafe.Pointer) ([]byte, error) {
			v := reflect.NewAt(t, p).Elem()
			if v.IsNil() {
				return append(dst, 0), nil
			}
			list, err := encodeMap(v, key, elem)
			dst = binary.AppendUvarint(dst, uint64(len(list))+1)
			for _, kv := range list {
				dst = append(dst, kv...)
			}
			return dst, err
		},
		decode: func(data []byte, p unsafe.Pointer) ([]byte, error) {
			n, data, err := (&plan{flat: empty}).length(data, 0)
			if err == nil && empty && n > 2 {
				err = errEncoding // a map whose keys have size 0 has at most one entry
			}
			if n == 0 || err != nil {
				return data, err
			}
			m := reflect.MakeMap(t)
			reflect.NewAt(t, p).Elem().Set(m)
			for range n - 1 {
				k, v := reflect.New(t.Key()), reflect.New(t.Elem())
				if data, err = key.decode(data, k.UnsafePointer()); err != nil {
					return nil, err
				}
				if data, err = elem.decode(data, v.UnsafePointer()); err != nil {
					return nil, err
				}
				m.SetMapIndex(k.Elem(), v.Elem())
			}
			return data, nil
		},
	}, nil
}

func encodeMap(m reflect.Value, key, elem *plan) (list [][]byte, err error) {
	for it := m.MapRange(); it.Next(); {
		k, v := reflect.New(m.Type().Key()), reflect.New(m.Type().Elem())
		k.Elem().Set(it.Key())
		v.Elem().Set(it.Value())
		kv, err := key.encode(nil, k.UnsafePointer())
		if err != nil {
			return nil, err
		}
		if kv, err = elem.encode(kv, v.UnsafePointer()); err != nil {
			return nil, err
		}
		list = append(list, kv)
	}
	slices.SortFunc(list, bytes.Compare)
	return list, nil
}
