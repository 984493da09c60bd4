package tail

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
)

// A key's value is a row of frames, one an append:
//
//	 0        4        5            13       17        18
//	+--------+--------+------------+--------+---------+----+--------------+
//	| length | flags  | unix milli | rows   | id len  | id | IPC messages |
//	+--------+--------+------------+--------+---------+----+--------------+
//
// Integers are little-endian; length counts what follows it. The messages of all
// frames one after the other are a stream of Arrow's IPC format without its end:
// the schema, in the first frame (flag 1), then record batches.
const (
	frameHead   = 18
	flagSchema  = 1
	maxIDLen    = 255
	maxFrameLen = 1<<31 - 1
)

var errFrame = errors.New("it is no frame of an append")

// frame is an append.
type frame struct {
	schema   bool // its messages begin with the schema
	at       time.Time
	rows     int64
	id       string
	messages []byte
}

// Encoder makes frames. It writes their messages with one writer, as long as the schema stays
// the same, for a new one makes as much garbage as the message of a row.
type Encoder struct {
	schema *arrow.Schema
	w      *ipc.Writer
	begun  bool         // the schema was written, which no frame but an epoch's first has
	to     bytes.Buffer // the frame
}

// Frame is an append to be made.
type Frame struct {
	schema *arrow.Schema
	v      []byte // without the time, and without the schema's message
	head   int    // the bytes before the messages
}

// Start, WritePayload and Close are what an ipc.Writer calls.
func (e *Encoder) Start() error { return nil }

func (e *Encoder) WritePayload(p ipc.Payload) error {
	if !e.begun {
		e.begun = true
		return nil
	}
	_, err := p.WritePayload(&e.to)
	return err
}

func (e *Encoder) Close() error { return nil }

// Encode returns the frame of an append of batches with a schema, without dictionaries, under
// an id if it is not "". After an error the encoder is of no more use.
func (e *Encoder) Encode(schema *arrow.Schema, batches []arrow.RecordBatch, id string) (Frame, error) {
	if e.schema != schema {
		e.schema, e.begun = schema, false
		e.w = ipc.NewWriterWithPayloadWriter(e, ipc.WithSchema(schema))
	}
	const usual = 1 << 10 // a few rows
	e.to = *bytes.NewBuffer(make([]byte, frameHead, frameHead+len(id)+usual))
	e.to.WriteString(id)
	var rows int64
	for _, batch := range batches {
		if err := e.w.Write(batch); err != nil {
			return Frame{}, err
		}
		rows += batch.NumRows()
	}
	v := e.to.Bytes()
	e.to = bytes.Buffer{}
	if len(v) > maxFrameLen || rows > 1<<32-1 || len(id) > maxIDLen {
		return Frame{}, fmt.Errorf("an append of %d rows and %d bytes is too large for the tail", rows, len(v))
	}
	binary.LittleEndian.PutUint32(v[13:], uint32(rows))
	v[17] = byte(len(id))
	return Frame{schema, v, frameHead + len(id)}, nil
}

// bytes returns the frame with a time, and with the schema if it is the first of an epoch.
func (f Frame) bytes(first bool, at time.Time) ([]byte, error) {
	v := f.v
	if first {
		head, err := schemaMessage(f.schema)
		if err != nil {
			return nil, err
		}
		v = slices.Concat(v[:f.head], head, v[f.head:])
		v[4] = flagSchema
		if len(v) > maxFrameLen {
			return nil, fmt.Errorf("an append of %d bytes is too large for the tail", len(v))
		}
	}
	binary.LittleEndian.PutUint32(v, uint32(len(v)-4))
	binary.LittleEndian.PutUint64(v[5:], uint64(at.UnixMilli()))
	return v, nil
}

// next takes the first frame off a value.
func next(v []byte) (f frame, rest []byte, err error) {
	if len(v) < frameHead {
		return f, nil, errFrame
	}
	n := int(binary.LittleEndian.Uint32(v)) + 4
	idEnd := frameHead + int(v[17])
	if n > len(v) || n < idEnd {
		return f, nil, errFrame
	}
	return frame{
		schema: v[4]&flagSchema != 0, at: time.UnixMilli(int64(binary.LittleEndian.Uint64(v[5:]))).UTC(),
		rows: int64(binary.LittleEndian.Uint32(v[13:])), id: string(v[frameHead:idEnd]), messages: v[idEnd:n],
	}, v[n:], nil
}
