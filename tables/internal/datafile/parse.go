package datafile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/apache/arrow-go/v18/parquet"
	pqfile "github.com/apache/arrow-go/v18/parquet/file"
)

// properties have files read page by page: whoever wants a few pages reads no others.
var properties = func() *parquet.ReaderProperties {
	p := parquet.NewReaderProperties(recycled)
	p.BufferedStreamEnabled = true
	return p
}()

// parse opens a file as Parquet. What its end says is kept for others: a file never changes,
// and one that took another's place, as a repaired one does, has another time.
func (s *Scan) parse(name string, source parquet.ReaderAtSeeker) (*pqfile.Reader, error) {
	with := pqfile.WithReadProps(properties)
	key := ""
	if file, ok := source.(fs.File); ok && s.Ends != nil {
		info, err := file.Stat()
		if err != nil {
			return nil, err
		}
		key = fmt.Sprintf("%s %d %d", name, info.Size(), info.ModTime().UnixNano())
		if end, ok := s.Ends.Get(key); ok {
			return pqfile.NewParquetReader(source, with, pqfile.WithMetadata(end))
		}
	}
	if err := checkEnd(source); err != nil {
		return nil, err
	}
	r, err := pqfile.NewParquetReader(source, with)
	if err != nil {
		return nil, err
	}
	end := r.MetaData()
	// An Arrow schema that a writer left would change the types, and is a way to have much
	// memory allocated.
	end.FileMetaData.KeyValueMetadata = nil
	if key != "" {
		s.Ends.Put(key, end, 8*int64(end.Size())+1024)
	}
	return r, nil
}

// checkEnd looks at what the end of a file claims to have, as far as it is one.
func checkEnd(source parquet.ReaderAtSeeker) error {
	var last [8]byte
	size, err := source.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = source.ReadAt(last[:], max(size-8, 0))
	}
	if err != nil && err != io.EOF {
		return err
	}
	length := int64(binary.LittleEndian.Uint32(last[:]))
	if from := size - 8 - length; from > 0 && string(last[4:]) == "PAR1" && !fits(source, from, int(length)) {
		return errors.New("its end claims to have more than its bytes: the file is damaged")
	}
	return nil
}
