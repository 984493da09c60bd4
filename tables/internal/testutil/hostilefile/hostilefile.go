// Package hostilefile has files that took a reader's memory, or ended it.
package hostilefile

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// Bomb is a column of 16,384 texts of 1 MiB, all the same, as pyarrow packs them.
const Bomb = "UEFSMRUEFYiAgAEVekwVAhUAEgAAKLUv/YBIBAAQAGwAACgAABAAeAEA+P850AICABB4AgAQeAIAEHgCABB4AgAQeAIAEHgCABB4IQAAeHh4eBUAFRoVLCwVgIACFRAVBhUGHAAAACi1L/0gDWkAAAQAAACAgAIBAYCA" +
	"AgAVBBksNQAYBnNjaGVtYRUCABUMJQIYAWElAEwcAAAAFoCAAhkcGRwmABwVDBk1AAYQGRgBYRUMFoCAAhbugIABFvIBJqQBJggpLBUEFQAVAgAVABUQFQIAPBaAgICAgAEZBhkmAICAAgAAABbugIABFoCAAiYIFvIBACggcGFycXVldC1jcHAtYXJyb3cgdmVyc2lvbiAyNi4wLjEZHBwAAACiAAAAUEFSMQ=="

// Broken has a column whose length is negative, at which the library panics in a
// goroutine of its own.
const Broken = "UEFSMRUAFSwVLCwVBBUAFQYVBhwAAAACAAAABAEBAAAAAAAAAAIAAAAAAAAAFQAVKBUoLBUEFQAVBhUGHAAAAAIAAACKAgMAAABhYmMDAAAAYWJkFQAVQBVALBUKFQAVBhUGHAAAAAIAAAADGgIAAAAKBAEAAAACAAAAAQAAAAIAAAADAAAA" +
	"FQQZfEgGc2NoZW1hFQQAFQQlAhgBYSUkTKwTQBEAAAA1AhgBcxUEABUMJQIYAXglAEwcAAAANQIYAXkVAhUGTDwAAAA1BBgEbGlzdBUCABUCJQIYB2VsZW1lbnQlIkysEyARAAAAFgQZHBk8JggcFQQZJQAGGRgBYRUAFgQWUhZSJghJHBUA" +
	"FQAVAgAAACZaHBUMGSUABhkoAXMBeBUAFgQWThZOJlpJHBUAFQAVAgAAACaoARwVAhklAAYZSAFzAXkEbGlzdAdlbGVtZW50FQAWChZmFmEmqAFJHBUAFQAVAgAAABaGAhYEJggWhgIUAAAZDBgZcGFycXVldC1nbyB2ZXJzaW9uIDE4Ljgu" +
	"MBk8HAAAHAAAHAAAABsBAABQQVIx"

// Decoded is a file in base64 as it is.
func Decoded(text string) string {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// Sparse is lines of JSON: the first has so many columns, the others none.
func Sparse(columns, lines int) string {
	var b strings.Builder
	b.WriteString(`{"c":1`)
	for i := range columns - 1 {
		fmt.Fprintf(&b, `,"c%d":1`, i)
	}
	return b.String() + "}\n" + strings.Repeat("{}\n", lines)
}
