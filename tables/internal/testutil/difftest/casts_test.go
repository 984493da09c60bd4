package difftest

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/state/definition"
)

// meaning returns what a type's values represent, independent of their storage.
func meaning(t arrow.DataType) string {
	switch t := plainType(t).(type) {
	case *arrow.DurationType:
		return "duration"
	case *arrow.Time32Type, *arrow.Time64Type:
		return "time of day"
	case *arrow.Date32Type:
		return "date"
	case *arrow.Date64Type:
		return "time"
	case *arrow.TimestampType:
		if t.TimeZone != "" {
			return "time in a zone"
		}
		return "time"
	case *arrow.BooleanType:
		return "bool"
	case *arrow.StringType, *arrow.LargeStringType, *arrow.StringViewType:
		return "text"
	case *arrow.BinaryType, *arrow.LargeBinaryType, *arrow.BinaryViewType, *arrow.FixedSizeBinaryType:
		return "bytes"
	case *arrow.Float16Type, *arrow.Float32Type, *arrow.Float64Type:
		return "float"
	}
	return "number"
}

// convertValue converts a value of one type to the equal value of another type. ok is false if there is no equal
// value.
func convertValue(v any, from, to arrow.DataType) (_ any, ok bool) {
	from, to = plainType(from), plainType(to)
	if v == nil {
		return nil, true
	}
	if list, ok := v.([]any); ok {
		a, b := from.(arrow.NestedType).Fields(), to.(arrow.NestedType).Fields()
		if m, isMap := to.(*arrow.MapType); isMap {
			a, b = []arrow.Field{from.(*arrow.MapType).KeyField(), from.(*arrow.MapType).ItemField()}, []arrow.Field{m.KeyField(), m.ItemField()}
		}
		list = slices.Clone(list)
		for i := range list {
			if list[i], ok = convertValue(list[i], a[i%len(a)].Type, b[i%len(b)].Type); !ok {
				return nil, false
			}
		}
		return list, true
	}
	if meaning(from) != meaning(to) {
		return nil, false
	}
	switch t := to.(type) {
	case *arrow.DurationType: // a duration's value is its number of units
		v = new(big.Rat).Mul(v.(*big.Rat), big.NewRat(int64(from.(*arrow.DurationType).Unit.Multiplier()), int64(t.Unit.Multiplier())))
	case *arrow.Float16Type:
		f := float32(v.(float64))
		nearest := nearestHalf(f)
		return v, nearest == f || math.IsNaN(float64(f)) && float64(f) != v
	case *arrow.Float32Type:
		return v, float64(float32(v.(float64))) == v || math.IsNaN(v.(float64))
	case *arrow.FixedSizeBinaryType:
		return v, len(v.([]byte)) == t.ByteWidth
	case *arrow.Uint64Type:
		return v, v.(*big.Rat).IsInt() && v.(*big.Rat).Num().IsUint64()
	case arrow.DecimalType:
		n := new(big.Rat).Mul(v.(*big.Rat), new(big.Rat).SetInt(power10(t.GetScale())))
		return v, n.IsInt() && new(big.Int).Abs(n.Num()).Cmp(power10(t.GetPrecision())) < 0
	}
	unit, minCount, maxCount := unitRange(to)
	if unit == 0 {
		return v, true
	}
	n := new(big.Rat).Quo(v.(*big.Rat), ratOf(int64(unit)))
	return v, n.IsInt() && n.Num().IsInt64() && n.Num().Int64() >= minCount && n.Num().Int64() <= maxCount
}

// nearestHalf returns the float16 value nearest to f, or 0 if f is out of range.
func nearestHalf(f float32) float32 {
	const bits = 11 // bits of the significand
	if f == 0 || math.IsInf(float64(f), 0) || math.IsNaN(float64(f)) {
		return f
	}
	unit := math.Ldexp(1, max(math.Ilogb(math.Abs(float64(f)))-bits+1, -24))
	if rounded := math.RoundToEven(float64(f)/unit) * unit; math.Abs(rounded) <= 65504 {
		return float32(rounded)
	}
	return 0
}

// confusableType returns a type whose values could be confused with values of t, often because both are
// stored in the same way.
func confusableType(r *rand.Rand, t arrow.DataType) arrow.DataType {
	unit := arrow.TimeUnit(r.IntN(4))
	duration, integer := &arrow.DurationType{Unit: unit}, pick[arrow.DataType](r, arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Uint32)
	clock := pick[arrow.DataType](r, arrow.FixedWidthTypes.Time64ns, arrow.FixedWidthTypes.Time64us, arrow.FixedWidthTypes.Time32ms)
	switch t := plainType(t).(type) {
	case *arrow.StructType:
		fields := slices.Clone(t.Fields())
		f := &fields[r.IntN(len(fields))]
		f.Type = confusableType(r, f.Type)
		return arrow.StructOf(fields...)
	case *arrow.MapType:
		m := arrow.MapOf(t.KeyType(), confusableType(r, t.ItemType()))
		m.SetItemNullable(t.ItemField().Nullable)
		return m
	case *arrow.FixedSizeListType:
		return arrow.FixedSizeListOfField(t.Len(), arrow.Field{Name: "item", Type: confusableType(r, t.Elem()), Nullable: t.ElemField().Nullable})
	case arrow.ListLikeType:
		return arrow.ListOfField(arrow.Field{Name: "item", Type: confusableType(r, t.Elem()), Nullable: t.ElemField().Nullable})
	case *arrow.DurationType:
		return pick[arrow.DataType](r, duration, duration, integer, clock)
	case *arrow.Date64Type:
		return &arrow.TimestampType{Unit: unit}
	case *arrow.TimestampType:
		return pick[arrow.DataType](r, arrow.FixedWidthTypes.Date64, &arrow.TimestampType{Unit: unit, TimeZone: pick(r, zones...)})
	case *arrow.Time32Type, *arrow.Time64Type:
		return pick(r, clock, clock, integer, arrow.DataType(duration))
	}
	switch {
	case arrow.IsInteger(t.ID()):
		return pick(r, integer, arrow.DataType(duration), clock, arrow.PrimitiveTypes.Uint64)
	case isFloat(t):
		return pick[arrow.DataType](r, arrow.FixedWidthTypes.Float16, arrow.PrimitiveTypes.Float32)
	}
	all := plainTypes(r)
	return pick(r, slices.DeleteFunc(all, func(t arrow.DataType) bool { return t.ID() == arrow.NULL })...)
}

// putOtherType puts rows where one column has a different type. The store must convert the values to equal
// values of the table's type, or refuse them.
func (d *run) putOtherType(r *rand.Rand) (string, error) {
	c := pickColumn(r, d.cols, func(c *column) bool {
		return c.name != "id" && !slices.Contains(d.identityColumns(), c.name) && c.typ.ID() != arrow.NULL
	})
	if c == nil || d.settings.Evolution != "" {
		return "", nil
	}
	cols := slices.Clone(d.cols)
	changed := &column{c.name, confusableType(r, c.typ), c.nullable}
	cols[slices.Index(cols, c)] = changed
	original := d.newRows(r, 1+r.IntN(3), cols, d.identityColumns())
	rows, allEqual := slices.Clone(original), true
	for i, row := range rows {
		rows[i] = maps.Clone(row)
		v, ok := convertValue(row[c.name], changed.typ, c.typ)
		rows[i][c.name], allEqual = v, allEqual && ok
	}
	description := fmt.Sprintf("%d rows of%s, for a column %q of %s", len(rows), describeColumns(cols), c.name, c.typ)
	_, err := d.bucket.Table("t").Put(d.ctx, d.reader(r, original, cols), tables.PutAppend, nil)
	switch {
	case err == nil && !allEqual:
		return description, errors.New("the put succeeded, although the column's type cannot represent a value")
	case err == nil:
		d.rows, d.inTail = d.dedup(append(slices.Clone(d.rows), rows...)), !d.opts.NoTail
	case allEqual && changed.typ.ID() == arrow.DURATION && c.typ.ID() == arrow.DURATION, !errors.As(err, new(*tables.SchemaError)):
		return description, err
	}
	return description, nil
}

func TestCasts(t *testing.T) {
	units := []arrow.TimeUnit{arrow.Second, arrow.Millisecond, arrow.Microsecond, arrow.Nanosecond}
	r := rand.New(rand.NewPCG(1, 1))
	types := []arrow.DataType{&arrow.Decimal128Type{Precision: 20}, &arrow.Decimal128Type{Precision: 9, Scale: 2}, &arrow.FixedSizeBinaryType{ByteWidth: 16}}
	for _, leaf := range plainTypes(r) {
		if leaf.ID() != arrow.NULL {
			types = append(types, leaf)
		}
	}
	for _, u := range units {
		types = append(types, &arrow.DurationType{Unit: u}, &arrow.TimestampType{Unit: u}, &arrow.TimestampType{Unit: u, TimeZone: "Asia/Tokyo"})
	}
	accepted := 0
	for _, wrap := range []int{0, 1, 8} {
		for _, from := range types {
			for _, to := range types {
				from, to := nestingTypes(from)[wrap], nestingTypes(to)[wrap]
				for range 12 {
					v := randomValue(r, from, false)
					b := array.NewBuilder(alloc, from)
					appendValue(b, v)
					result, err := cast(unusualLayout(r, b.NewArray()), to)
					want, isEqual := convertValue(v, from, to)
					switch {
					case err == nil && (!isEqual || canonicalText(result) != canonicalText(want)):
						t.Errorf("cast of %s %s gives %s of type %s, want %s", from, canonicalText(v), canonicalText(result), to, canonicalText(want))
					case err == nil:
						accepted++
					case isEqual && plainType(from).ID() == arrow.DURATION && plainType(to).ID() == arrow.DURATION:
						t.Errorf("cast of %s %s to %s: error %v, want the equal value", from, canonicalText(v), to, err)
					}
				}
			}
		}
	}
	if accepted < 4000 {
		t.Errorf("%d casts succeeded, want at least 4000", accepted)
	}
}

// cast puts a's value into a column of type target, and returns the value that is read back.
func cast(a arrow.Array, target arrow.DataType) (any, error) {
	putSchema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: a.DataType(), Nullable: true}}, nil)
	tableSchema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: target, Nullable: true}}, nil)
	stored, err := schema.Stored(tableSchema)
	if err != nil {
		return nil, err
	}
	logical := schema.WithoutEncodings(tableSchema)
	changes, err := definition.Evolution("").ChangesFor(putSchema, logical)
	if err == nil && len(changes) > 0 {
		err = errors.New("the put would change the column's type")
	}
	if err != nil {
		return nil, err
	}
	c, err := schema.NewPutCaster(putSchema, stored, logical, nil)
	if err != nil {
		return nil, err
	}
	converted, err := c.Cast(array.NewRecordBatch(putSchema, []arrow.Array{a}, 1))
	if err != nil {
		return nil, err
	}
	restored, err := schema.Convert(converted, logical)
	if err != nil {
		return nil, fmt.Errorf("read the value back: %w", err)
	}
	return readValue(restored.Column(0), 0), nil
}
