//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"cmp"
	"iter"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"

	"github.com/go-partd/partd/tables/internal/arrowsafe"
)

// undecoded is a result that came from another process.
type undecoded interface {
	Messages() iter.Seq2[arrowsafe.Message, error]
}

// encoded is a reader of such a result, which can also be read undecoded.
type encoded struct {
	array.RecordReader
	apart  undecoded
	failed func(error) error
	err    error
}

// Messages are the result, as Flight carries it, in the place of Next. Each is valid
// until the next one.
func (e *encoded) Messages() iter.Seq[*flight.FlightData] {
	return func(yield func(*flight.FlightData) bool) {
		for m, err := range e.apart.Messages() {
			if err != nil {
				e.err = e.failed(err)
				return
			}
			if !yield(&flight.FlightData{DataHeader: m.Header, DataBody: m.Body}) {
				return
			}
		}
	}
}

func (e *encoded) Err() error { return cmp.Or(e.err, e.RecordReader.Err()) }
