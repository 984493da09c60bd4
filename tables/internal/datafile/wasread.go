package datafile

import (
	"reflect"
	"runtime"
	"strings"
	"sync"
	"weak"

	"github.com/apache/arrow-go/v18/arrow/array"
)

// ended has the readers whose rows puts have read to the end. It keeps none from being
// collected.
var ended sync.Map // of weak.Pointer[byte]

// atRows reports whether a reader is at a batch that has rows. One that is there before it
// is read has been read before. Of others than Arrow's and ours nothing is known: theirs may
// need a Next before there is any batch.
func atRows(r array.RecordReader) bool {
	if identity(r) == nil {
		return false
	}
	b := r.RecordBatch()
	return b != nil && b.NumRows() > 0
}

// noteEnd remembers a reader that gave rows and has ended, unless it shows so itself.
func noteEnd(r array.RecordReader) {
	if p := identity(r); p != nil && r.Err() == nil && !atRows(r) {
		key := weak.Make(p)
		ended.Store(key, true)
		runtime.AddCleanup(p, func(key weak.Pointer[byte]) { ended.Delete(key) }, key)
	}
}

// wasRead reports whether a put has read a reader's rows to the end.
func wasRead(r array.RecordReader) bool {
	_, was := ended.Load(weak.Make(identity(r)))
	return was
}

// identity returns where a reader is, if it is one of Arrow's or of ours: these stay at
// their end. Others, as those of a queue, may have rows again.
func identity(r array.RecordReader) *byte {
	if w, ok := r.(interface{ Unwrap() array.RecordReader }); ok {
		return identity(w.Unwrap())
	}
	v := reflect.ValueOf(r)
	if v.Kind() != reflect.Pointer {
		return nil
	}
	path := v.Type().Elem().PkgPath()
	ours, cut := strings.CutPrefix(path, "github.com/go-partd/partd/tables")
	if !strings.HasPrefix(path, "github.com/apache/arrow-go/") && (!cut || ours != "" && ours[0] != '/') {
		return nil
	}
	return (*byte)(v.UnsafePointer())
}
