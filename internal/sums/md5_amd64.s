// MD5 of sixteen streams at once, with the 256-bit registers of AVX2: each register holds one 32-bit word of eight streams. The steps of the two groups of
// eight alternate, since each step of one has to wait for the one before.

#include "funcdata.h"
#include "textflag.h"

// The registers: A to D hold the state of a group, T and U are for its steps, ONES has all bits set.
#define A0 Y0
#define B0 Y1
#define C0 Y2
#define D0 Y3
#define T0 Y4
#define U0 Y5
#define A1 Y6
#define B1 Y7
#define C1 Y8
#define D1 Y9
#define T1 Y10
#define U1 Y11
#define ONES Y12

// What the four rounds have in common (RFC 1321, 3.4): a = b + rotate(a + f(b, c, d) + message + constant). The message's words lie on the stack, the
// constants in memory.
#define START(a, u, from, word, constant) \
	VPBROADCASTD (4*constant)(DX), u \
	VPADDD       (from+32*word)(SP), u, u \
	VPADDD       u, a, a

#define END(a, b, t, shift) \
	VPADDD t, a, a          \
	VPSLLD $shift, a, t     \
	VPSRLD $(32-shift), a, a \
	VPOR   t, a, a          \
	VPADDD b, a, a

// f is (b and c) or (not b and d).
#define ROUND1(a, b, c, d, t, u, from, word, shift, constant) \
	VPXOR d, c, t \
	START(a, u, from, word, constant) \
	VPAND b, t, t \
	VPXOR d, t, t \
	END(a, b, t, shift)

// f is (b and d) or (c and not d).
#define ROUND2(a, b, c, d, t, u, from, word, shift, constant) \
	VPANDN c, d, t \
	START(a, u, from, word, constant) \
	VPADDD t, a, a \
	VPAND  b, d, t \
	END(a, b, t, shift)

// f is b xor c xor d.
#define ROUND3(a, b, c, d, t, u, from, word, shift, constant) \
	VPXOR d, c, t \
	START(a, u, from, word, constant) \
	VPXOR b, t, t \
	END(a, b, t, shift)

// f is c xor (b or not d).
#define ROUND4(a, b, c, d, t, u, from, word, shift, constant) \
	VPXOR ONES, d, t \
	START(a, u, from, word, constant) \
	VPOR  b, t, t \
	VPXOR c, t, t \
	END(a, b, t, shift)

// TRANSPOSE reads 32 bytes of eight streams and puts the eight words that they are, one of all eight after the other, on the stack.
#define TRANSPOSE(streams, from, to) \
	MOVQ (streams)(SI), R8       \
	MOVQ (streams+8)(SI), R9     \
	MOVQ (streams+16)(SI), R10   \
	MOVQ (streams+24)(SI), R11   \
	MOVQ (streams+32)(SI), R12   \
	MOVQ (streams+40)(SI), R13   \
	MOVQ (streams+48)(SI), DI    \
	MOVQ (streams+56)(SI), BX    \
	VMOVDQU    (from)(R8)(CX*1), Y0   \
	VMOVDQU    (from)(R9)(CX*1), Y1   \
	VMOVDQU    (from)(R10)(CX*1), Y2  \
	VMOVDQU    (from)(R11)(CX*1), Y3  \
	VMOVDQU    (from)(R12)(CX*1), Y4  \
	VMOVDQU    (from)(R13)(CX*1), Y5  \
	VMOVDQU    (from)(DI)(CX*1), Y6   \
	VMOVDQU    (from)(BX)(CX*1), Y7   \
	VPUNPCKLDQ Y1, Y0, Y12      \
	VPUNPCKHDQ Y1, Y0, Y13      \
	VPUNPCKLDQ Y3, Y2, Y14      \
	VPUNPCKHDQ Y3, Y2, Y15      \
	VPUNPCKLDQ Y5, Y4, Y0       \
	VPUNPCKHDQ Y5, Y4, Y1       \
	VPUNPCKLDQ Y7, Y6, Y2       \
	VPUNPCKHDQ Y7, Y6, Y3       \
	VPUNPCKLQDQ Y14, Y12, Y4    \
	VPUNPCKHQDQ Y14, Y12, Y5    \
	VPUNPCKLQDQ Y15, Y13, Y6    \
	VPUNPCKHQDQ Y15, Y13, Y7    \
	VPUNPCKLQDQ Y2, Y0, Y12     \
	VPUNPCKHQDQ Y2, Y0, Y13     \
	VPUNPCKLQDQ Y3, Y1, Y14     \
	VPUNPCKHQDQ Y3, Y1, Y15     \
	VPERM2I128 $0x20, Y12, Y4, Y0 \
	VPERM2I128 $0x20, Y13, Y5, Y1 \
	VPERM2I128 $0x20, Y14, Y6, Y2 \
	VPERM2I128 $0x20, Y15, Y7, Y3 \
	VMOVDQU    Y0, (to)(SP)     \
	VMOVDQU    Y1, (to+32)(SP)  \
	VMOVDQU    Y2, (to+64)(SP)  \
	VMOVDQU    Y3, (to+96)(SP)  \
	VPERM2I128 $0x31, Y12, Y4, Y0 \
	VPERM2I128 $0x31, Y13, Y5, Y1 \
	VPERM2I128 $0x31, Y14, Y6, Y2 \
	VPERM2I128 $0x31, Y15, Y7, Y3 \
	VMOVDQU    Y0, (to+128)(SP) \
	VMOVDQU    Y1, (to+160)(SP) \
	VMOVDQU    Y2, (to+192)(SP) \
	VMOVDQU    Y3, (to+224)(SP)

// func blocks16(state *[2][4][8]uint32, data *[16]*byte, blocks int)
TEXT ·blocks16(SB), 0, $1024-24
	NO_LOCAL_POINTERS
	MOVQ state+0(FP), AX
	MOVQ data+8(FP), SI
	MOVQ blocks+16(FP), R8
	LEAQ ·constants(SB), DX
	SHLQ $6, R8
	MOVQ R8, blocks+16(FP)
	XORQ CX, CX // the bytes of each stream that are done

block:
	TRANSPOSE(0, 0, 0)
	TRANSPOSE(0, 32, 256)
	TRANSPOSE(64, 0, 512)
	TRANSPOSE(64, 32, 768)
	VPCMPEQD ONES, ONES, ONES
	VMOVDQU 0(AX), A0
	VMOVDQU 32(AX), B0
	VMOVDQU 64(AX), C0
	VMOVDQU 96(AX), D0
	VMOVDQU 128(AX), A1
	VMOVDQU 160(AX), B1
	VMOVDQU 192(AX), C1
	VMOVDQU 224(AX), D1

	ROUND1(A0, B0, C0, D0, T0, U0, 0, 0, 7, 0)
	ROUND1(A1, B1, C1, D1, T1, U1, 512, 0, 7, 0)
	ROUND1(D0, A0, B0, C0, T0, U0, 0, 1, 12, 1)
	ROUND1(D1, A1, B1, C1, T1, U1, 512, 1, 12, 1)
	ROUND1(C0, D0, A0, B0, T0, U0, 0, 2, 17, 2)
	ROUND1(C1, D1, A1, B1, T1, U1, 512, 2, 17, 2)
	ROUND1(B0, C0, D0, A0, T0, U0, 0, 3, 22, 3)
	ROUND1(B1, C1, D1, A1, T1, U1, 512, 3, 22, 3)
	ROUND1(A0, B0, C0, D0, T0, U0, 0, 4, 7, 4)
	ROUND1(A1, B1, C1, D1, T1, U1, 512, 4, 7, 4)
	ROUND1(D0, A0, B0, C0, T0, U0, 0, 5, 12, 5)
	ROUND1(D1, A1, B1, C1, T1, U1, 512, 5, 12, 5)
	ROUND1(C0, D0, A0, B0, T0, U0, 0, 6, 17, 6)
	ROUND1(C1, D1, A1, B1, T1, U1, 512, 6, 17, 6)
	ROUND1(B0, C0, D0, A0, T0, U0, 0, 7, 22, 7)
	ROUND1(B1, C1, D1, A1, T1, U1, 512, 7, 22, 7)
	ROUND1(A0, B0, C0, D0, T0, U0, 0, 8, 7, 8)
	ROUND1(A1, B1, C1, D1, T1, U1, 512, 8, 7, 8)
	ROUND1(D0, A0, B0, C0, T0, U0, 0, 9, 12, 9)
	ROUND1(D1, A1, B1, C1, T1, U1, 512, 9, 12, 9)
	ROUND1(C0, D0, A0, B0, T0, U0, 0, 10, 17, 10)
	ROUND1(C1, D1, A1, B1, T1, U1, 512, 10, 17, 10)
	ROUND1(B0, C0, D0, A0, T0, U0, 0, 11, 22, 11)
	ROUND1(B1, C1, D1, A1, T1, U1, 512, 11, 22, 11)
	ROUND1(A0, B0, C0, D0, T0, U0, 0, 12, 7, 12)
	ROUND1(A1, B1, C1, D1, T1, U1, 512, 12, 7, 12)
	ROUND1(D0, A0, B0, C0, T0, U0, 0, 13, 12, 13)
	ROUND1(D1, A1, B1, C1, T1, U1, 512, 13, 12, 13)
	ROUND1(C0, D0, A0, B0, T0, U0, 0, 14, 17, 14)
	ROUND1(C1, D1, A1, B1, T1, U1, 512, 14, 17, 14)
	ROUND1(B0, C0, D0, A0, T0, U0, 0, 15, 22, 15)
	ROUND1(B1, C1, D1, A1, T1, U1, 512, 15, 22, 15)

	ROUND2(A0, B0, C0, D0, T0, U0, 0, 1, 5, 16)
	ROUND2(A1, B1, C1, D1, T1, U1, 512, 1, 5, 16)
	ROUND2(D0, A0, B0, C0, T0, U0, 0, 6, 9, 17)
	ROUND2(D1, A1, B1, C1, T1, U1, 512, 6, 9, 17)
	ROUND2(C0, D0, A0, B0, T0, U0, 0, 11, 14, 18)
	ROUND2(C1, D1, A1, B1, T1, U1, 512, 11, 14, 18)
	ROUND2(B0, C0, D0, A0, T0, U0, 0, 0, 20, 19)
	ROUND2(B1, C1, D1, A1, T1, U1, 512, 0, 20, 19)
	ROUND2(A0, B0, C0, D0, T0, U0, 0, 5, 5, 20)
	ROUND2(A1, B1, C1, D1, T1, U1, 512, 5, 5, 20)
	ROUND2(D0, A0, B0, C0, T0, U0, 0, 10, 9, 21)
	ROUND2(D1, A1, B1, C1, T1, U1, 512, 10, 9, 21)
	ROUND2(C0, D0, A0, B0, T0, U0, 0, 15, 14, 22)
	ROUND2(C1, D1, A1, B1, T1, U1, 512, 15, 14, 22)
	ROUND2(B0, C0, D0, A0, T0, U0, 0, 4, 20, 23)
	ROUND2(B1, C1, D1, A1, T1, U1, 512, 4, 20, 23)
	ROUND2(A0, B0, C0, D0, T0, U0, 0, 9, 5, 24)
	ROUND2(A1, B1, C1, D1, T1, U1, 512, 9, 5, 24)
	ROUND2(D0, A0, B0, C0, T0, U0, 0, 14, 9, 25)
	ROUND2(D1, A1, B1, C1, T1, U1, 512, 14, 9, 25)
	ROUND2(C0, D0, A0, B0, T0, U0, 0, 3, 14, 26)
	ROUND2(C1, D1, A1, B1, T1, U1, 512, 3, 14, 26)
	ROUND2(B0, C0, D0, A0, T0, U0, 0, 8, 20, 27)
	ROUND2(B1, C1, D1, A1, T1, U1, 512, 8, 20, 27)
	ROUND2(A0, B0, C0, D0, T0, U0, 0, 13, 5, 28)
	ROUND2(A1, B1, C1, D1, T1, U1, 512, 13, 5, 28)
	ROUND2(D0, A0, B0, C0, T0, U0, 0, 2, 9, 29)
	ROUND2(D1, A1, B1, C1, T1, U1, 512, 2, 9, 29)
	ROUND2(C0, D0, A0, B0, T0, U0, 0, 7, 14, 30)
	ROUND2(C1, D1, A1, B1, T1, U1, 512, 7, 14, 30)
	ROUND2(B0, C0, D0, A0, T0, U0, 0, 12, 20, 31)
	ROUND2(B1, C1, D1, A1, T1, U1, 512, 12, 20, 31)

	ROUND3(A0, B0, C0, D0, T0, U0, 0, 5, 4, 32)
	ROUND3(A1, B1, C1, D1, T1, U1, 512, 5, 4, 32)
	ROUND3(D0, A0, B0, C0, T0, U0, 0, 8, 11, 33)
	ROUND3(D1, A1, B1, C1, T1, U1, 512, 8, 11, 33)
	ROUND3(C0, D0, A0, B0, T0, U0, 0, 11, 16, 34)
	ROUND3(C1, D1, A1, B1, T1, U1, 512, 11, 16, 34)
	ROUND3(B0, C0, D0, A0, T0, U0, 0, 14, 23, 35)
	ROUND3(B1, C1, D1, A1, T1, U1, 512, 14, 23, 35)
	ROUND3(A0, B0, C0, D0, T0, U0, 0, 1, 4, 36)
	ROUND3(A1, B1, C1, D1, T1, U1, 512, 1, 4, 36)
	ROUND3(D0, A0, B0, C0, T0, U0, 0, 4, 11, 37)
	ROUND3(D1, A1, B1, C1, T1, U1, 512, 4, 11, 37)
	ROUND3(C0, D0, A0, B0, T0, U0, 0, 7, 16, 38)
	ROUND3(C1, D1, A1, B1, T1, U1, 512, 7, 16, 38)
	ROUND3(B0, C0, D0, A0, T0, U0, 0, 10, 23, 39)
	ROUND3(B1, C1, D1, A1, T1, U1, 512, 10, 23, 39)
	ROUND3(A0, B0, C0, D0, T0, U0, 0, 13, 4, 40)
	ROUND3(A1, B1, C1, D1, T1, U1, 512, 13, 4, 40)
	ROUND3(D0, A0, B0, C0, T0, U0, 0, 0, 11, 41)
	ROUND3(D1, A1, B1, C1, T1, U1, 512, 0, 11, 41)
	ROUND3(C0, D0, A0, B0, T0, U0, 0, 3, 16, 42)
	ROUND3(C1, D1, A1, B1, T1, U1, 512, 3, 16, 42)
	ROUND3(B0, C0, D0, A0, T0, U0, 0, 6, 23, 43)
	ROUND3(B1, C1, D1, A1, T1, U1, 512, 6, 23, 43)
	ROUND3(A0, B0, C0, D0, T0, U0, 0, 9, 4, 44)
	ROUND3(A1, B1, C1, D1, T1, U1, 512, 9, 4, 44)
	ROUND3(D0, A0, B0, C0, T0, U0, 0, 12, 11, 45)
	ROUND3(D1, A1, B1, C1, T1, U1, 512, 12, 11, 45)
	ROUND3(C0, D0, A0, B0, T0, U0, 0, 15, 16, 46)
	ROUND3(C1, D1, A1, B1, T1, U1, 512, 15, 16, 46)
	ROUND3(B0, C0, D0, A0, T0, U0, 0, 2, 23, 47)
	ROUND3(B1, C1, D1, A1, T1, U1, 512, 2, 23, 47)

	ROUND4(A0, B0, C0, D0, T0, U0, 0, 0, 6, 48)
	ROUND4(A1, B1, C1, D1, T1, U1, 512, 0, 6, 48)
	ROUND4(D0, A0, B0, C0, T0, U0, 0, 7, 10, 49)
	ROUND4(D1, A1, B1, C1, T1, U1, 512, 7, 10, 49)
	ROUND4(C0, D0, A0, B0, T0, U0, 0, 14, 15, 50)
	ROUND4(C1, D1, A1, B1, T1, U1, 512, 14, 15, 50)
	ROUND4(B0, C0, D0, A0, T0, U0, 0, 5, 21, 51)
	ROUND4(B1, C1, D1, A1, T1, U1, 512, 5, 21, 51)
	ROUND4(A0, B0, C0, D0, T0, U0, 0, 12, 6, 52)
	ROUND4(A1, B1, C1, D1, T1, U1, 512, 12, 6, 52)
	ROUND4(D0, A0, B0, C0, T0, U0, 0, 3, 10, 53)
	ROUND4(D1, A1, B1, C1, T1, U1, 512, 3, 10, 53)
	ROUND4(C0, D0, A0, B0, T0, U0, 0, 10, 15, 54)
	ROUND4(C1, D1, A1, B1, T1, U1, 512, 10, 15, 54)
	ROUND4(B0, C0, D0, A0, T0, U0, 0, 1, 21, 55)
	ROUND4(B1, C1, D1, A1, T1, U1, 512, 1, 21, 55)
	ROUND4(A0, B0, C0, D0, T0, U0, 0, 8, 6, 56)
	ROUND4(A1, B1, C1, D1, T1, U1, 512, 8, 6, 56)
	ROUND4(D0, A0, B0, C0, T0, U0, 0, 15, 10, 57)
	ROUND4(D1, A1, B1, C1, T1, U1, 512, 15, 10, 57)
	ROUND4(C0, D0, A0, B0, T0, U0, 0, 6, 15, 58)
	ROUND4(C1, D1, A1, B1, T1, U1, 512, 6, 15, 58)
	ROUND4(B0, C0, D0, A0, T0, U0, 0, 13, 21, 59)
	ROUND4(B1, C1, D1, A1, T1, U1, 512, 13, 21, 59)
	ROUND4(A0, B0, C0, D0, T0, U0, 0, 4, 6, 60)
	ROUND4(A1, B1, C1, D1, T1, U1, 512, 4, 6, 60)
	ROUND4(D0, A0, B0, C0, T0, U0, 0, 11, 10, 61)
	ROUND4(D1, A1, B1, C1, T1, U1, 512, 11, 10, 61)
	ROUND4(C0, D0, A0, B0, T0, U0, 0, 2, 15, 62)
	ROUND4(C1, D1, A1, B1, T1, U1, 512, 2, 15, 62)
	ROUND4(B0, C0, D0, A0, T0, U0, 0, 9, 21, 63)
	ROUND4(B1, C1, D1, A1, T1, U1, 512, 9, 21, 63)

	VPADDD 0(AX), A0, A0
	VPADDD 32(AX), B0, B0
	VPADDD 64(AX), C0, C0
	VPADDD 96(AX), D0, D0
	VPADDD 128(AX), A1, A1
	VPADDD 160(AX), B1, B1
	VPADDD 192(AX), C1, C1
	VPADDD 224(AX), D1, D1
	VMOVDQU A0, 0(AX)
	VMOVDQU B0, 32(AX)
	VMOVDQU C0, 64(AX)
	VMOVDQU D0, 96(AX)
	VMOVDQU A1, 128(AX)
	VMOVDQU B1, 160(AX)
	VMOVDQU C1, 192(AX)
	VMOVDQU D1, 224(AX)
	ADDQ $64, CX
	CMPQ CX, blocks+16(FP)
	JLT  block
	VZEROUPPER
	RET
