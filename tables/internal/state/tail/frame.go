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

// A key's value is a sequence of frames, one for each append:
//
//	 0        4        5            13       17       18        26   26+id
//	+--------+--------+------------+--------+--------+---------+----+--------------+
//	| length | flags  | unix milli | rows   | id len | version | id | IPC messages |
//	+--------+--------+------------+--------+--------+---------+----+--------------+
//
// Integers are little-endian; length does not include itself. The messages of all frames, concatenated, are an Arrow
// IPC stream without its end marker: the schema, in the first frame (flag 1), and then record batches. The version is
// what the put returned.
const (
	frameHeaderLen = 26
	flagSchema     = 1
	maxIDLen       = 255
	maxFrameLen    = 1<<31 - 1
)

var errFrame = errors.New("invalid append frame")

// frame is a decoded append.
type frame struct {
	schema    bool // whether the messages begin with the schema
	timestamp time.Time
	rows      int64
	id        string
	version   int64 // the version that the put returned; 0 in Iceberg's format version 1, which does not number snapshots
	messages  []byte
}

// Encoder encodes frames. It reuses its IPC writer for frames with the same schema, because creating a writer allocates
// about as much memory as encoding a row.
type Encoder struct {
	schema *arrow.Schema
	w      *ipc.Writer
	// whether WritePayload has dropped w's schema message; Frame.bytes adds a schema message where needed
	skippedSchema bool
	buf           bytes.Buffer // the frame being encoded
}

// Frame is an encoded append. An epoch, which is the value of one key, is a sequence of frames.
type Frame struct {
	schema *arrow.Schema
	v      []byte // the frame; its length, time and version are not set yet, and there is no schema message
	head   int    // offset of the messages in v

	Version int64 // the version that the put returns; 0 in Iceberg's format version 1, which does not number snapshots
}

// Start, WritePayload and Close implement ipc.PayloadWriter.
func (e *Encoder) Start() error { return nil }

func (e *Encoder) WritePayload(p ipc.Payload) error {
	if !e.skippedSchema {
		e.skippedSchema = true
		return nil
	}
	_, err := p.WritePayload(&e.buf)
	return err
}

func (e *Encoder) Close() error { return nil }

// Encode returns the frame for an append of batches. The schema must not contain dictionary types. The put's id can be
// empty. The encoder must not be used after an error.
func (e *Encoder) Encode(schema *arrow.Schema, batches []arrow.RecordBatch, id string) (Frame, error) {
	if e.schema != schema {
		e.schema, e.skippedSchema = schema, false
		e.w = ipc.NewWriterWithPayloadWriter(e, ipc.WithSchema(schema))
	}
	const typicalSize = 1 << 10 // enough for a few rows
	e.buf = *bytes.NewBuffer(make([]byte, frameHeaderLen, frameHeaderLen+len(id)+typicalSize))
	e.buf.WriteString(id)
	var rows int64
	for _, batch := range batches {
		if err := e.w.Write(batch); err != nil {
			return Frame{}, err
		}
		rows += batch.NumRows()
	}
	v := e.buf.Bytes()
	e.buf = bytes.Buffer{}
	if len(v) > maxFrameLen || rows > 1<<32-1 || len(id) > maxIDLen {
		return Frame{}, fmt.Errorf("an append of %d rows and %d bytes is too large for the tail: split it", rows, len(v))
	}
	binary.LittleEndian.PutUint32(v[13:], uint32(rows))
	v[17] = byte(len(id))
	return Frame{schema: schema, v: v, head: frameHeaderLen + len(id)}, nil
}

// Len returns the frame's size in bytes, without a schema.
func (f Frame) Len() int { return len(f.v) }

// bytes returns the bytes to store, which include the time and the version. The first frame of an epoch also includes
// the schema.
func (f Frame) bytes(isFirst bool, timestamp time.Time) ([]byte, error) {
	v := f.v
	if isFirst {
		schemaBytes, err := schemaMessage(f.schema)
		if err != nil {
			return nil, err
		}
		v = slices.Concat(v[:f.head], schemaBytes, v[f.head:])
		v[4] = flagSchema
		if len(v) > maxFrameLen {
			return nil, fmt.Errorf("an append of %d bytes is too large for the tail: split it", len(v))
		}
	}
	binary.LittleEndian.PutUint32(v, uint32(len(v)-4))
	binary.LittleEndian.PutUint64(v[5:], uint64(timestamp.UnixMilli()))
	binary.LittleEndian.PutUint64(v[18:], uint64(f.Version))
	return v, nil
}

func nextFrame(v []byte) (f frame, remaining []byte, err error) {
	if len(v) < frameHeaderLen {
		return f, nil, errFrame
	}
	n := int(binary.LittleEndian.Uint32(v)) + 4
	idEnd := frameHeaderLen + int(v[17])
	if n > len(v) || n < idEnd {
		return f, nil, errFrame
	}
	return frame{
		schema: v[4]&flagSchema != 0, timestamp: time.UnixMilli(int64(binary.LittleEndian.Uint64(v[5:]))).UTC(),
		rows: int64(binary.LittleEndian.Uint32(v[13:])), id: string(v[frameHeaderLen:idEnd]),
		version: int64(binary.LittleEndian.Uint64(v[18:])), messages: v[idEnd:n],
	}, v[n:], nil
}
