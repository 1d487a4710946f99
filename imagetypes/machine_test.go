package imagetypes

import (
	"errors"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/imagetypes/internal/imagetest"
	"github.com/imgbuild/imgbuild/layers"
)

func TestArchitecture(t *testing.T) {
	elf := func(machine byte) string { // the begin of a program, little-endian
		return "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9) + "\x02\x00" + string([]byte{machine, 0}) + strings.Repeat("\x00", 60)
	}
	const arm64, amd64, i386, arm = 183, 62, 3, 40
	for _, c := range []struct {
		program, arch, want string
	}{
		{elf(arm64), "aarch64", ""}, {elf(amd64), "x86_64", ""}, {elf(i386), "x86_64", ""}, {elf(arm), "aarch64", ""}, {"#!/bin/other", "x86_64", ""},
		{elf(arm64), "x86_64", "--target-arch aarch64"}, {elf(amd64), "aarch64", "--target-arch x86_64"}, {elf(amd64), "i686", "--target-arch x86_64"},
	} {
		edit := layers.NewTree().Edit(layers.Timespec{})
		if err := edit.WriteFile("bin/sh", []byte(c.program), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, kind := range []string{"tar", "docker", "ext4"} {
			err := Check(t.Context(), CreateOptions{Tree: edit.Tree(), Description: imagetest.Describe(t, c.arch, kind, "", "")})
			var wrong *ArchitectureError
			if c.want == "" && err != nil || c.want != "" && (!errors.As(err, &wrong) || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%s of %q for %s: %v", kind, c.program[:5], c.arch, err)
			}
		}
	}
}
