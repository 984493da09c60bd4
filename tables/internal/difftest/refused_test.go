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

// spoiled returns a copy of a value with a null where its type does not allow it, and the path
// to the null. ok is false if it finds no such place.
func spoiled(r *rand.Rand, v any, t arrow.DataType) (bad any, path string, ok bool) {
	parts, isList := v.([]any)
	nested, isNested := plain(t).(arrow.NestedType)
	if !isList || !isNested || len(parts) == 0 {
		return nil, "", false
	}
	at, isMap := r.IntN(len(parts)), false
	f, name := nested.Fields()[0], ".element"
	switch nested := nested.(type) {
	case *arrow.StructType:
		f = nested.Field(at)
		name = "." + f.Name
	case *arrow.MapType:
		at |= 1
		f, name, isMap = nested.ItemField(), ".value", true // a map's builder panics
	}
	if parts = slices.Clone(parts); !f.Nullable && !isMap && r.IntN(2) == 0 {
		parts[at] = nil
		return parts, name, true
	}
	part, path, ok := spoiled(r, parts[at], f.Type)
	if !ok {
		if f.Nullable || isMap {
			return nil, "", false
		}
		part, path = nil, ""
	}
	parts[at] = part
	return parts, name + path, true
}

// putNull puts rows, one of which has a null where its column's type does not allow it.
func (d *run) putNull(r *rand.Rand) (string, error) {
	rows := d.fresh(r, 1+r.IntN(9), d.cols, d.order())
	for range 20 {
		c := choose(r, d.cols, func(c *column) bool { return arrow.IsNested(plain(c.typ).ID()) })
		if c == nil || len(rows) == 0 {
			break
		}
		at := r.IntN(len(rows))
		v, path, ok := spoiled(r, rows[at][c.name], c.typ)
		if !ok {
			continue
		}
		rows[at][c.name] = v
		_, err := d.bucket.Put(d.ctx, "t", d.reader(r, rows, d.cols), tables.PutAppend, nil)
		what := fmt.Sprintf("%d rows of%s, with a null at %s%s", len(rows), describe(d.cols), c.name, path)
		var wrong *tables.SchemaError
		switch {
		case err == nil:
			return what, errors.New("it is not refused")
		case !errors.As(err, &wrong) || wrong.Column != c.name || !strings.Contains(err.Error(), fmt.Sprintf("%q", c.name+path)):
			return what, fmt.Errorf("the error does not name the field: %w", err)
		}
		return what, nil
	}
	return "", nil
}
