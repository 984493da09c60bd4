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
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/schema"
)

// meaning returns what a type's values represent, however they are stored.
func meaning(t arrow.DataType) string {
	switch t := plain(t).(type) {
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

// recast converts a value of one type to the equal value of another. ok is false if there is
// none.
func recast(v any, from, to arrow.DataType) (_ any, ok bool) {
	from, to = plain(from), plain(to)
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
			if list[i], ok = recast(list[i], a[i%len(a)].Type, b[i%len(b)].Type); !ok {
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
		half := nearestHalf(f)
		return v, half == f || math.IsNaN(float64(f)) && float64(f) != v
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
	unit, least, most := counted(to)
	if unit == 0 {
		return v, true
	}
	n := new(big.Rat).Quo(v.(*big.Rat), whole(int64(unit)))
	return v, n.IsInt() && n.Num().IsInt64() && n.Num().Int64() >= least && n.Num().Int64() <= most
}

// nearestHalf returns a float16 value near f, which is f itself if it is exact.
func nearestHalf(f float32) float32 {
	const bits = 11 // bits of the significand
	if f == 0 || math.IsInf(float64(f), 0) || math.IsNaN(float64(f)) {
		return f
	}
	unit := math.Ldexp(1, max(math.Ilogb(math.Abs(float64(f)))-bits+1, -24))
	if near := math.RoundToEven(float64(f)/unit) * unit; math.Abs(near) <= 65504 {
		return float32(near)
	}
	return 0
}

// kin returns a type whose values could be confused with those of t, often because both are
// stored alike.
func kin(r *rand.Rand, t arrow.DataType) arrow.DataType {
	unit := arrow.TimeUnit(r.IntN(4))
	duration, number := &arrow.DurationType{Unit: unit}, pick[arrow.DataType](r, arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Uint32)
	clock := pick[arrow.DataType](r, arrow.FixedWidthTypes.Time64ns, arrow.FixedWidthTypes.Time64us, arrow.FixedWidthTypes.Time32ms)
	switch t := plain(t).(type) {
	case *arrow.StructType:
		fields := slices.Clone(t.Fields())
		f := &fields[r.IntN(len(fields))]
		f.Type = kin(r, f.Type)
		return arrow.StructOf(fields...)
	case *arrow.MapType:
		m := arrow.MapOf(t.KeyType(), kin(r, t.ItemType()))
		m.SetItemNullable(t.ItemField().Nullable)
		return m
	case *arrow.FixedSizeListType:
		return arrow.FixedSizeListOfField(t.Len(), arrow.Field{Name: "item", Type: kin(r, t.Elem()), Nullable: t.ElemField().Nullable})
	case arrow.ListLikeType:
		return arrow.ListOfField(arrow.Field{Name: "item", Type: kin(r, t.Elem()), Nullable: t.ElemField().Nullable})
	case *arrow.DurationType:
		return pick[arrow.DataType](r, duration, duration, number, clock)
	case *arrow.Date64Type:
		return &arrow.TimestampType{Unit: unit}
	case *arrow.TimestampType:
		return pick[arrow.DataType](r, arrow.FixedWidthTypes.Date64, &arrow.TimestampType{Unit: unit, TimeZone: pick(r, zones...)})
	case *arrow.Time32Type, *arrow.Time64Type:
		return pick(r, clock, clock, number, arrow.DataType(duration))
	}
	switch {
	case arrow.IsInteger(t.ID()):
		return pick(r, number, arrow.DataType(duration), clock, arrow.PrimitiveTypes.Uint64)
	case isFloat(t):
		return pick[arrow.DataType](r, arrow.FixedWidthTypes.Float16, arrow.PrimitiveTypes.Float32)
	}
	all := plainTypes(r)
	return pick(r, slices.DeleteFunc(all, func(t arrow.DataType) bool { return t.ID() == arrow.NULL })...)
}

// putOther puts rows in which one column has a different type. The values must be converted to
// equal values of the table's type, or be refused.
func (d *run) putOther(r *rand.Rand) (string, error) {
	c := choose(r, d.cols, func(c *column) bool {
		return c.name != "id" && !slices.Contains(d.order(), c.name) && c.typ.ID() != arrow.NULL
	})
	if c == nil || d.settings.Evolution != "" {
		return "", nil
	}
	cols := slices.Clone(d.cols)
	as := &column{c.name, kin(r, c.typ), c.nullable}
	cols[slices.Index(cols, c)] = as
	put := d.fresh(r, 1+r.IntN(3), cols, d.order())
	rows, same := slices.Clone(put), true
	for i, row := range rows {
		rows[i] = maps.Clone(row)
		v, ok := recast(row[c.name], as.typ, c.typ)
		rows[i][c.name], same = v, same && ok
	}
	what := fmt.Sprintf("%d rows of%s, for a column %q of %s", len(rows), describe(cols), c.name, c.typ)
	_, err := d.bucket.Put(d.ctx, "t", d.reader(r, put, cols), tables.PutAppend, nil)
	switch {
	case err == nil && !same:
		return what, errors.New("it is not refused, though a value is none of the column's type")
	case err == nil:
		d.rows, d.inTail = d.once(append(slices.Clone(d.rows), rows...)), !d.opts.NoTail
	case same && as.typ.ID() == arrow.DURATION && c.typ.ID() == arrow.DURATION, !errors.As(err, new(*tables.SchemaError)):
		return what, err
	}
	return what, nil
}

// TestCasts puts values of every type into columns of every type.
func TestCasts(t *testing.T) {
	units := []arrow.TimeUnit{arrow.Second, arrow.Millisecond, arrow.Microsecond, arrow.Nanosecond}
	r := rand.New(rand.NewPCG(1, 1))
	types := []arrow.DataType{&arrow.Decimal128Type{Precision: 20}, &arrow.Decimal128Type{Precision: 9, Scale: 2}, &arrow.FixedSizeBinaryType{ByteWidth: 16}}
	for _, plain := range plainTypes(r) {
		if plain.ID() != arrow.NULL {
			types = append(types, plain)
		}
	}
	for _, u := range units {
		types = append(types, &arrow.DurationType{Unit: u}, &arrow.TimestampType{Unit: u}, &arrow.TimestampType{Unit: u, TimeZone: "Asia/Tokyo"})
	}
	accepted := 0
	for _, wrap := range []int{0, 1, 8} {
		for _, from := range types {
			for _, to := range types {
				from, to := wrappings(from)[wrap], wrappings(to)[wrap]
				for range 12 {
					v := value(r, from, false)
					b := array.NewBuilder(alloc, from)
					build(b, v)
					got, err := cast(unusual(r, b.NewArray()), to)
					want, same := recast(v, from, to)
					switch {
					case err == nil && (!same || canon(got) != canon(want)):
						t.Errorf("%s %s is %s as %s, want %s", from, canon(v), canon(got), to, canon(want))
					case err == nil:
						accepted++
					case same && plain(from).ID() == arrow.DURATION && plain(to).ID() == arrow.DURATION:
						t.Errorf("%s %s as %s: %v", from, canon(v), to, err)
					}
				}
			}
		}
	}
	if accepted < 4000 {
		t.Errorf("%d values were accepted", accepted)
	}
}

// cast returns the value that is read after a is put into a column of type to.
func cast(a arrow.Array, to arrow.DataType) (any, error) {
	put := arrow.NewSchema([]arrow.Field{{Name: "x", Type: a.DataType(), Nullable: true}}, nil)
	has := arrow.NewSchema([]arrow.Field{{Name: "x", Type: to, Nullable: true}}, nil)
	stored, err := schema.Stored(has)
	if err != nil {
		return nil, err
	}
	logical := schema.WithoutEncodings(has)
	changes, err := definition.Evolution("").ChangesFor(put, logical)
	if err == nil && len(changes) > 0 {
		err = errors.New("the column would become another")
	}
	if err != nil {
		return nil, err
	}
	c, err := schema.NewPutCaster(put, stored, logical)
	if err != nil {
		return nil, err
	}
	kept, err := c.Cast(array.NewRecordBatch(put, []arrow.Array{a}, 1))
	if err != nil {
		return nil, err
	}
	back, err := schema.Convert(kept, logical)
	if err != nil {
		return nil, fmt.Errorf("it cannot be read: %w", err)
	}
	return read(back.Column(0), 0), nil
}
