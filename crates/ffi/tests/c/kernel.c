/* A kernel that resets the machine at once. */
__asm__(".globl _start\n"
	"_start:\n"
	"	movb $0xfe, %al\n"
	"	outb %al, $0x64\n"
	"1:	hlt\n"
	"	jmp 1b\n");
