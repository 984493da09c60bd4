#include "textflag.h"

// func wideBits(data *byte, blocks int, sep, newline byte, bits *[2]uint64)
//
// For each block of 64 bytes: the bits of those that are separators or newlines, then
// those of the newlines.
TEXT ·wideBits(SB), NOSPLIT, $0-32
	MOVQ data+0(FP), SI
	MOVQ blocks+8(FP), CX
	MOVBQZX sep+16(FP), AX
	MOVBQZX newline+17(FP), BX
	MOVQ bits+24(FP), DI
	VMOVQ AX, X0
	VPBROADCASTB X0, Y0
	VMOVQ BX, X1
	VPBROADCASTB X1, Y1

next:
	VMOVDQU (SI), Y2
	VMOVDQU 32(SI), Y3
	VPCMPEQB Y1, Y2, Y4 // newlines
	VPCMPEQB Y1, Y3, Y5
	VPCMPEQB Y0, Y2, Y2 // separators
	VPCMPEQB Y0, Y3, Y3
	VPOR Y4, Y2, Y2
	VPOR Y5, Y3, Y3
	VPMOVMSKB Y2, R8
	VPMOVMSKB Y3, R9
	VPMOVMSKB Y4, R10
	VPMOVMSKB Y5, R11
	SHLQ $32, R9
	SHLQ $32, R11
	ORQ R9, R8
	ORQ R11, R10
	MOVQ R8, (DI)
	MOVQ R10, 8(DI)
	ADDQ $64, SI
	ADDQ $16, DI
	DECQ CX
	JNZ next
	VZEROUPPER
	RET
