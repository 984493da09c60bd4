package tabletest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"
)

// Int96File returns a Parquet file with times in Parquet's old type INT96. Each row has a time twice: in column t, and
// as field x of the only element of column l, a list of structs. The zero time is null in t. The field IDs of t, l,
// the element and x are 1 to 4.
func Int96File(t testing.TB, times ...time.Time) []byte {
	t.Helper()
	leaf := func(name string, r parquet.Repetition, id int32) schema.Node {
		return schema.MustPrimitive(schema.NewPrimitiveNode(name, r, parquet.Types.Int96, id, -1))
	}
	element := schema.MustGroup(schema.NewGroupNode("element", parquet.Repetitions.Required, schema.FieldList{leaf("x", parquet.Repetitions.Required, 4)}, 3))
	list := schema.MustGroup(schema.ListOfWithName("l", element, parquet.Repetitions.Required, 2))
	root := schema.MustGroup(schema.NewGroupNode("root", parquet.Repetitions.Required, schema.FieldList{leaf("t", parquet.Repetitions.Optional, 1), list}, -1))
	var all, present []parquet.Int96
	var defined, inList, first []int16
	for _, v := range times {
		nanoseconds := uint64(v.Hour()*3600+v.Minute()*60+v.Second())*1e9 + uint64(v.Nanosecond())
		days := (v.Unix() - int64(nanoseconds/1e9)) / 86400
		encoded := parquet.Int96(binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint64(nil, nanoseconds), uint32(days+2440588)))
		all, inList, first = append(all, encoded), append(inList, 1), append(first, 0)
		if v.IsZero() {
			defined = append(defined, 0)
		} else {
			defined, present = append(defined, 1), append(present, encoded)
		}
	}
	var written bytes.Buffer
	w := file.NewParquetWriter(&written, root)
	rows, err := w.AppendRowGroupChecked()
	if err != nil {
		t.Fatal(err)
	}
	write := func(values []parquet.Int96, defined, repeated []int16) error {
		column, err := rows.NextColumn()
		if err == nil {
			_, err = column.(*file.Int96ColumnChunkWriter).WriteBatch(values, defined, repeated)
		}
		return err
	}
	if err = errors.Join(write(present, defined, nil), write(all, inList, first), w.Close()); err != nil {
		t.Fatal(err)
	}
	return written.Bytes()
}
