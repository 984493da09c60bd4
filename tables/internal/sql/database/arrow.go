//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

// The Go bindings declare these two C functions only under a build tag. Without the declarations here, every program
// that uses this package would have to set the tag.

// #include <stdint.h>
// #include <stdlib.h>
// extern void *duckdb_to_arrow_schema(void *options, void **types, const char **names, uint64_t n, void *out);
// extern void *duckdb_data_chunk_to_arrow(void *options, void *chunk, void *out);
import "C"

import (
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"strconv"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/cdata"
	duckdb "github.com/duckdb/duckdb-go-bindings"

	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

func arrowSchema(o duckdb.ArrowOptions, types []duckdb.LogicalType, names []string) (*arrow.Schema, error) {
	if len(types) == 0 {
		return arrow.NewSchema(nil, nil), nil
	}
	// Unlike C.calloc, C.malloc never returns nil.
	size := C.size_t(len(types)) * C.size_t(unsafe.Sizeof(unsafe.Pointer(nil)))
	cTypes := (*unsafe.Pointer)(C.malloc(size))
	defer C.free(unsafe.Pointer(cTypes))
	cNames := (**C.char)(C.malloc(size))
	defer C.free(unsafe.Pointer(cNames))
	for i, t := range types {
		unsafe.Slice(cTypes, len(types))[i] = t.Ptr
		name := C.CString(names[i])
		defer C.free(unsafe.Pointer(name))
		unsafe.Slice(cNames, len(types))[i] = name
	}
	cSchema := (*cdata.CArrowSchema)(C.malloc(C.size_t(unsafe.Sizeof(cdata.CArrowSchema{}))))
	*cSchema = cdata.CArrowSchema{}
	defer C.free(unsafe.Pointer(cSchema))
	defer cdata.ReleaseCArrowSchema(cSchema)
	if err := arrowError(C.duckdb_to_arrow_schema(o.Ptr, cTypes, cNames, C.uint64_t(len(types)), unsafe.Pointer(cSchema))); err != nil {
		return nil, err
	}
	return cdata.ImportCArrowSchema(cSchema)
}

// arrowBatch converts a chunk to a batch. The batch does not depend on the chunk or its database.
func arrowBatch(o duckdb.ArrowOptions, schema *arrow.Schema, chunk duckdb.DataChunk) (arrow.RecordBatch, error) {
	cArray := (*cdata.CArrowArray)(C.malloc(C.size_t(unsafe.Sizeof(cdata.CArrowArray{}))))
	*cArray = cdata.CArrowArray{}
	defer C.free(unsafe.Pointer(cArray))
	defer cdata.ReleaseCArrowArray(cArray)
	if err := arrowError(C.duckdb_data_chunk_to_arrow(o.Ptr, chunk.Ptr, unsafe.Pointer(cArray))); err != nil {
		return nil, err
	}
	batch, err := cdata.ImportCRecordBatchWithSchema(cArray, schema)
	if err != nil {
		return nil, err
	}
	for _, column := range batch.Columns() {
		zeroNulls(column.Data(), nil)
	}
	return batch, nil
}

func arrowError(p unsafe.Pointer) error {
	e := duckdb.ErrorData{Ptr: p}
	defer duckdb.DestroyErrorData(&e)
	if p == nil || !duckdb.ErrorDataHasError(e) {
		return nil
	}
	return decodeError("", duckdb.ErrorDataMessage(e))
}

func (d *Database) parameterSchema() (*arrow.Schema, error) {
	fields := make([]arrow.Field, duckdb.NParams(d.stmt))
	for i := range fields {
		index := duckdb.IdxT(i + 1)
		fields[i] = arrow.Field{Name: duckdb.ParameterName(d.stmt, index), Nullable: true}
		s, _, err := d.schema(1, func(duckdb.IdxT) (string, duckdb.LogicalType) {
			return fields[i].Name, duckdb.ParamLogicalType(d.stmt, index)
		})
		if err != nil {
			return nil, err
		}
		fields[i].Type = s.Field(0).Type
	}
	return arrow.NewSchema(fields, nil), nil
}

func (d *Database) bind(sql string, params arrow.RecordBatch) error {
	n := int(duckdb.NParams(d.stmt))
	if params == nil {
		if n > 0 {
			return &sqltext.Error{Err: fmt.Errorf("the statement has %d parameters, but no values were given", n)}
		}
		return nil
	}
	if int(params.NumCols()) != n || params.NumRows() != 1 {
		return &sqltext.Error{Err: fmt.Errorf("the statement has %d parameters: pass 1 row with as many columns, not %d rows with %d columns", n, params.NumRows(), params.NumCols())}
	}
	for i := range n {
		name := duckdb.ParameterName(d.stmt, duckdb.IdxT(i+1))
		column := i
		if _, err := strconv.Atoi(name); err != nil {
			if matches := params.Schema().FieldIndices(name); len(matches) == 1 {
				column = matches[0]
			} else if matches := params.Schema().FieldIndices("$" + name); len(matches) == 1 {
				column = matches[0]
			}
		}
		v, err := valueOf(params.Column(column), 0)
		if err != nil {
			return &sqltext.Error{Err: fmt.Errorf("parameter $%s: %w", name, err)}
		}
		state := duckdb.BindValue(d.stmt, duckdb.IdxT(i+1), v)
		duckdb.DestroyValue(&v)
		if state == duckdb.StateError {
			return decodeError(sql, duckdb.PrepareError(d.stmt))
		}
	}
	return nil
}

func valueOf(a arrow.Array, row int) (v duckdb.Value, err error) {
	values, indexOf := arrowtype.Values(a)
	a, row = arrowtype.Storage(values), indexOf(row)
	if row < 0 {
		return duckdb.CreateNullValue(), nil
	}
	t, dataType := arrowtype.Of(a.DataType()), a.DataType()
	switch t.Kind {
	case arrowtype.Bool:
		return duckdb.CreateBool(t.Ints(a)(row) == 1), nil
	case arrowtype.Integer:
		return integerValues[t.Native](t.Ints(a)(row)), nil
	case arrowtype.Float:
		if dataType.ID() == arrow.FLOAT64 {
			return duckdb.CreateDouble(t.Floats(a)(row)), nil
		}
		return duckdb.CreateFloat(float32(t.Floats(a)(row))), nil
	case arrowtype.Text:
		s := a.(array.StringLike).Value(row)
		if !utf8.ValidString(s) { // invalid UTF-8 would crash DuckDB
			return v, errors.New("the text is not UTF-8")
		}
		return duckdb.CreateVarcharLength(s, duckdb.IdxT(len(s))), nil
	case arrowtype.Binary:
		return duckdb.CreateBlob(a.(interface{ Value(int) []byte }).Value(row)), nil
	case arrowtype.Decimal:
		if dataType.ID() == arrow.DECIMAL128 {
			return decimal(dataType.(arrow.DecimalType), t.Decimals(a)(row).BigInt())
		}
	case arrowtype.Date:
		if dataType.ID() == arrow.DATE32 {
			return duckdb.CreateDate(duckdb.NewDate(int32(t.Ints(a)(row)))), nil
		}
		return duckdb.CreateTimestampMS(duckdb.NewTimestampMS(t.Ints(a)(row))), nil
	case arrowtype.Time:
		return timeOfDay(unitOf(a), t.Ints(a)(row))
	case arrowtype.Timestamp:
		return timestamp(dataType.(*arrow.TimestampType), t.Ints(a)(row))
	case arrowtype.Duration:
		return interval(0, 0, unitOf(a), t.Ints(a)(row))
	case arrowtype.Interval:
		if a, ok := a.(*array.MonthDayNanoInterval); ok {
			i := a.Value(row)
			return interval(i.Months, i.Days, arrow.Nanosecond, i.Nanoseconds)
		}
	}
	return v, fmt.Errorf("a value of type %s is not supported", dataType)
}

var integerValues = map[reflect.Kind]func(n int64) duckdb.Value{
	reflect.Int8: func(n int64) duckdb.Value { return duckdb.CreateInt8(int8(n)) }, reflect.Uint8: func(n int64) duckdb.Value { return duckdb.CreateUInt8(uint8(n)) },
	reflect.Int16: func(n int64) duckdb.Value { return duckdb.CreateInt16(int16(n)) }, reflect.Uint16: func(n int64) duckdb.Value { return duckdb.CreateUInt16(uint16(n)) },
	reflect.Int32: func(n int64) duckdb.Value { return duckdb.CreateInt32(int32(n)) }, reflect.Uint32: func(n int64) duckdb.Value { return duckdb.CreateUInt32(uint32(n)) },
	reflect.Int64: duckdb.CreateInt64, reflect.Uint64: func(n int64) duckdb.Value { return duckdb.CreateUInt64(uint64(n)) },
}

func interval(months, days int32, unit arrow.TimeUnit, n int64) (v duckdb.Value, err error) {
	micros, err := toMicros(unit, n)
	if err == nil {
		v = duckdb.CreateInterval(duckdb.NewInterval(months, days, micros))
	}
	return v, err
}

func unitOf(a arrow.Array) arrow.TimeUnit { return a.DataType().(arrow.TemporalWithUnit).TimeUnit() }

// decimal converts a decimal. It rejects values that would crash DuckDB.
func decimal(t arrow.DecimalType, v *big.Int) (d duckdb.Value, err error) {
	limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(t.GetPrecision())), nil)
	if t.GetPrecision() < 1 || t.GetPrecision() > 38 || t.GetScale() < 0 || t.GetScale() > t.GetPrecision() || v.CmpAbs(limit) >= 0 {
		return d, fmt.Errorf("%s with scale %d does not fit into decimal(%d, %d) in SQL", v, t.GetScale(), t.GetPrecision(), t.GetScale())
	}
	low := new(big.Int).And(v, new(big.Int).SetUint64(1<<64-1)).Uint64()
	high := new(big.Int).Rsh(v, 64).Int64()
	return duckdb.CreateDecimal(duckdb.NewDecimal(uint8(t.GetPrecision()), uint8(t.GetScale()), duckdb.NewHugeInt(low, high))), nil
}

// timeOfDay converts a time of day. It rejects values that would make DuckDB write beyond a buffer.
func timeOfDay(unit arrow.TimeUnit, v int64) (d duckdb.Value, err error) {
	nanos := int64(unit.Multiplier())
	if v < 0 || v > 24*int64(time.Hour)/nanos {
		return d, fmt.Errorf("%d %s is not a time of day", v, unit)
	}
	if unit == arrow.Nanosecond {
		return duckdb.CreateTimeNS(duckdb.NewTimeNS(v)), nil
	}
	return duckdb.CreateTime(duckdb.NewTime(v * nanos / 1000)), nil
}

func timestamp(t *arrow.TimestampType, v int64) (duckdb.Value, error) {
	if t.TimeZone != "" {
		micros, err := toMicros(t.Unit, v)
		if err != nil {
			return duckdb.Value{}, err
		}
		return duckdb.CreateTimestampTZ(duckdb.NewTimestamp(micros)), nil
	}
	micros, err := toMicros(t.Unit, v)
	if t.Unit == arrow.Second {
		return duckdb.CreateTimestampS(duckdb.NewTimestampS(v)), nil
	}
	if t.Unit == arrow.Nanosecond {
		return duckdb.CreateTimestampNS(duckdb.NewTimestampNS(v)), nil
	}
	if err != nil { // too many milliseconds; all others become microseconds, because DuckDB casts them to all other units
		return duckdb.CreateTimestampMS(duckdb.NewTimestampMS(v)), nil
	}
	return duckdb.CreateTimestamp(duckdb.NewTimestamp(micros)), nil
}

// toMicros converts v to microseconds, the finest unit of DuckDB's intervals and its timestamps with a time zone.
func toMicros(unit arrow.TimeUnit, v int64) (int64, error) {
	nanos := int64(unit.Multiplier())
	if nanos < 1000 {
		if v%1000 != 0 {
			return 0, fmt.Errorf("%d nanoseconds is not a whole number of microseconds, the finest unit of the type in SQL", v)
		}
		return v / 1000, nil
	}
	nanos /= 1000
	if v > (1<<63-1)/nanos || v < -(1<<63-1)/nanos {
		return 0, fmt.Errorf("%d %s is out of range", v, unit)
	}
	return v * nanos, nil
}
