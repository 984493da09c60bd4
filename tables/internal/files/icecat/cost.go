package icecat

import "fmt"

const (
	// CostPerByte is the memory that decoding and encoding metadata needs per byte of JSON.
	CostPerByte = 6

	costPerValue = 64        // additional bytes per value, because a short value can become a large struct
	maxValues    = 1 << 20   // maximum number of values in a JSON text
	maxPasses    = 192 << 20 // maximum number of bytes that the decoder reads, summed over all nesting levels
)

// DecodedCost returns the memory, in bytes, for decoding a client's JSON. It rejects JSON that has too many values or
// levels: the decoder cannot be interrupted, and reads a nested schema once for each level around it. The error has no
// subject; the caller must add one, such as "the body".
func DecodedCost(b []byte) (int64, error) {
	level, inString := int64(1), false
	var passes, values int64
	for i := 0; i < len(b); i++ {
		passes += level
		switch c := b[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			level++
			values++
		case c == ',':
			values++
		case c == '}' || c == ']':
			level--
		}
	}
	if values > maxValues {
		return 0, fmt.Errorf("has more than %d values", maxValues)
	}
	if passes > maxPasses {
		return 0, fmt.Errorf("is nested too deeply for its %d bytes", len(b))
	}
	return max(CostPerByte*int64(len(b)), passes) + costPerValue*values, nil
}
