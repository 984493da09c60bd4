package pickle

import "fmt"

// The instructions that Python writes for plain values in protocols 4 and 5, by
// the names that CPython gives them.
const (
	opMark            = '('
	opStop            = '.'
	opBinInt          = 'J'
	opBinInt1         = 'K'
	opBinInt2         = 'M'
	opNone            = 'N'
	opReduce          = 'R'
	opBinUnicode      = 'X'
	opAppend          = 'a'
	opBuild           = 'b'
	opEmptyDict       = '}'
	opAppends         = 'e'
	opBinGet          = 'h'
	opLongBinGet      = 'j'
	opEmptyList       = ']'
	opSetItem         = 's'
	opTuple           = 't'
	opEmptyTuple      = ')'
	opSetItems        = 'u'
	opBinFloat        = 'G'
	opBinBytes        = 'B'
	opShortBinBytes   = 'C'
	opProto           = 0x80
	opTuple1          = 0x85
	opTuple2          = 0x86
	opTuple3          = 0x87
	opNewObj          = 0x81
	opNewTrue         = 0x88
	opNewFalse        = 0x89
	opLong1           = 0x8a
	opLong4           = 0x8b
	opShortBinUnicode = 0x8c
	opBinUnicode8     = 0x8d
	opBinBytes8       = 0x8e
	opEmptySet        = 0x8f
	opAddItems        = 0x90
	opFrozenSet       = 0x91
	opStackGlobal     = 0x93
	opMemoize         = 0x94
	opFrame           = 0x95
	opByteArray8      = 0x96 // of protocol 5
)

// widths are how many bytes the number has that follows an instruction: the value,
// its length, or its place in the memo.
var widths = [256]int{
	opBinInt1: 1, opBinInt2: 2, opBinInt: 4, opLong1: 1, opLong4: 4,
	opShortBinUnicode: 1, opBinUnicode: 4, opBinUnicode8: 8,
	opShortBinBytes: 1, opBinBytes: 4, opBinBytes8: 8, opByteArray8: 8,
	opBinGet: 1, opLongBinGet: 4, opFrame: 8,
}

// refused are the instructions that plain values have no use for.
var refused = map[byte]string{
	'0':      "POP (a tuple that contains itself)",
	'1':      "POP_MARK (a tuple that contains itself)",
	'P':      "PERSID (an object that is kept elsewhere)",
	'Q':      "BINPERSID (an object that is kept elsewhere)",
	opBuild:  "BUILD (the state of an object)",
	'c':      "GLOBAL (a class or function)",
	'i':      "INST (an object of a class)",
	'o':      "OBJ (an object of a class)",
	opNewObj: "NEWOBJ (an object of a class)",
	0x82:     "EXT1 (a registered class or function)",
	0x83:     "EXT2 (a registered class or function)",
	0x84:     "EXT4 (a registered class or function)",
	0x92:     "NEWOBJ_EX (an object of a class)",
	0x97:     "NEXT_BUFFER (a buffer that is kept elsewhere)",
	0x98:     "READONLY_BUFFER (a buffer that is kept elsewhere)",
}

func refuse(op byte) error {
	if name, known := refused[op]; known {
		return fmt.Errorf("instruction %s: only plain values are read, and nothing is executed", name)
	}
	return fmt.Errorf("%#02x is not an instruction of a pickle of protocol 4 or 5", op)
}
