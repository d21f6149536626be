/* A kernel with a driver for the keyboard controller: enables the keyboard's interrupt (which it does not take), says 'u' on
 * the first serial line, and resets the machine at the first code. */
__asm__(".globl _start\n"
	"_start:\n"
	"	movb $0x60, %al\n"
	"	outb %al, $0x64\n"
	"	movb $0x01, %al\n"
	"	outb %al, $0x60\n"
	"	movw $0x3f8, %dx\n"
	"	movb $'u', %al\n"
	"	outb %al, %dx\n"
	"1:	inb $0x64, %al\n"
	"	testb $1, %al\n"
	"	jz 1b\n"
	"	inb $0x60, %al\n"
	"	movb $0xfe, %al\n"
	"	outb %al, $0x64\n"
	"2:	hlt\n"
	"	jmp 2b\n");
