// Package tablesotel reports operations on tables to OpenTelemetry, as spans and as metrics:
//
//	observer, err := tablesotel.New(nil)
//	store, err := tables.Open(ctx, dir, &tables.Options{Observer: observer})
//
// Each span is named after its operation, such as "tables.put", and is a child of the span in the caller's context. The
// metrics are partd.tables.duration, a histogram in seconds, and the counters partd.tables.rows and partd.tables.bytes.
// Spans and metrics have the attribute partd.operation; metrics of failed operations also have error.type. Only spans
// have attributes for the bucket and the table, because these have too many values for metrics.
package tablesotel

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/go-partd/partd/tables"
)

// Options configures New. A nil provider means the process's global one.
type Options struct {
	Tracer trace.TracerProvider
	Meter  metric.MeterProvider
}

type observer struct {
	tracer      trace.Tracer
	duration    metric.Float64Histogram
	rows, bytes metric.Int64Counter
}

const scope = "github.com/go-partd/partd/tables/tablesotel"

// New returns an Observer for [tables.Options]. o can be nil.
func New(o *Options) (tables.Observer, error) {
	o = cmp.Or(o, new(Options))
	ob := &observer{tracer: cmp.Or(o.Tracer, otel.GetTracerProvider()).Tracer(scope)}
	m := cmp.Or(o.Meter, otel.GetMeterProvider()).Meter(scope)
	var err, rowsErr, bytesErr error
	ob.duration, err = m.Float64Histogram("partd.tables.duration", metric.WithUnit("s"), metric.WithDescription("How long operations on tables took."))
	ob.rows, rowsErr = m.Int64Counter("partd.tables.rows", metric.WithUnit("{row}"), metric.WithDescription("Rows that were put, read, written or folded."))
	ob.bytes, bytesErr = m.Int64Counter("partd.tables.bytes", metric.WithUnit("By"), metric.WithDescription("Arrow-encoded bytes that were put or read."))
	return ob, errors.Join(err, rowsErr, bytesErr)
}

func (ob *observer) Begin(ctx context.Context, o tables.Operation) (context.Context, func(tables.Outcome)) {
	operation := attribute.String("partd.operation", o.Name)
	ctx, span := ob.tracer.Start(ctx, "tables."+o.Name, trace.WithAttributes(
		operation, attribute.String("partd.bucket", o.Bucket), attribute.String("partd.table", o.Table)))
	return ctx, func(out tables.Outcome) {
		defer span.End()
		attributes := []attribute.KeyValue{operation}
		if out.Err != nil {
			span.RecordError(out.Err)
			span.SetStatus(codes.Error, out.Err.Error())
			attributes = append(attributes, attribute.String("error.type", errorType(out.Err)))
		}
		span.SetAttributes(attribute.Int64("partd.rows", out.Rows), attribute.Int64("partd.bytes", out.Bytes))
		attributeSet := metric.WithAttributeSet(attribute.NewSet(attributes...))
		ctx := context.WithoutCancel(ctx) // record the outcome even if the context was canceled
		ob.duration.Record(ctx, out.Duration.Seconds(), attributeSet)
		ob.rows.Add(ctx, out.Rows, attributeSet)
		ob.bytes.Add(ctx, out.Bytes, attributeSet)
	}
}

// errorType returns the value of the attribute error.type for an error. It distinguishes only a few kinds of errors.
func errorType(err error) string {
	for _, known := range []error{
		context.Canceled, context.DeadlineExceeded, tables.ErrNotFound, tables.ErrExists,
		tables.ErrConflict, tables.ErrDamaged, tables.ErrReadOnly, tables.ErrClosed,
	} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	var op *tables.OpError
	for errors.As(err, &op) {
		err = op.Err
	}
	return fmt.Sprintf("%T", err)
}
