package difftest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables"
)

// withForbiddenNull returns a copy of a value with a null where its type does not allow it, and the path to
// the null. ok is false if the value has no place for such a null.
func withForbiddenNull(r *rand.Rand, v any, t arrow.DataType) (bad any, path string, ok bool) {
	parts, isList := v.([]any)
	nested, isNested := plainType(t).(arrow.NestedType)
	if !isList || !isNested || len(parts) == 0 {
		return nil, "", false
	}
	index, isMap := r.IntN(len(parts)), false
	f, name := nested.Fields()[0], ".element"
	switch nested := nested.(type) {
	case *arrow.StructType:
		f = nested.Field(index)
		name = "." + f.Name
	case *arrow.MapType:
		index |= 1
		f, name, isMap = nested.ItemField(), ".value", true // a map's builder panics
	}
	if parts = slices.Clone(parts); !f.Nullable && !isMap && r.IntN(2) == 0 {
		parts[index] = nil
		return parts, name, true
	}
	child, path, ok := withForbiddenNull(r, parts[index], f.Type)
	if !ok {
		if f.Nullable || isMap {
			return nil, "", false
		}
		child, path = nil, ""
	}
	parts[index] = child
	return parts, name + path, true
}

// putNull puts rows with a null that a column's type forbids. The store must refuse them, and name the field.
func (d *run) putNull(r *rand.Rand) (string, error) {
	rows := d.newRows(r, 1+r.IntN(9), d.cols, d.identityColumns())
	for range 20 {
		c := pickColumn(r, d.cols, func(c *column) bool { return arrow.IsNested(plainType(c.typ).ID()) })
		if c == nil || len(rows) == 0 {
			break
		}
		index := r.IntN(len(rows))
		v, path, ok := withForbiddenNull(r, rows[index][c.name], c.typ)
		if !ok {
			continue
		}
		rows[index][c.name] = v
		_, err := d.bucket.Table("t").Put(d.ctx, d.reader(r, rows, d.cols), tables.PutAppend, nil)
		description := fmt.Sprintf("%d rows of%s, with a null at %s%s", len(rows), describeColumns(d.cols), c.name, path)
		var schemaErr *tables.SchemaError
		switch {
		case err == nil:
			return description, errors.New("the put succeeded, although a value has a forbidden null")
		case !errors.As(err, &schemaErr) || schemaErr.Column != c.name || !strings.Contains(err.Error(), fmt.Sprintf("%q", c.name+path)):
			return description, fmt.Errorf("the error does not name the field: %w", err)
		}
		return description, nil
	}
	return "", nil
}
