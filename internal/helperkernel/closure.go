package helperkernel

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/internal/command"
)

// closure collects programs of this machine with all that they need to run elsewhere: shared libraries, the dynamic loader, the
// interpreter of a script.
type closure struct {
	out  *initrdWriter
	libs map[string]bool // names of shared libraries that are in already
	dirs []string        // where those libraries lie
}

// program adds a program under the path where this machine has it.
func (c *closure) program(name string) error {
	path, err := command.Find(name)
	if err != nil {
		return err
	}
	return c.file(path, path)
}

// file adds the file at path as name, and what it needs.
func (c *closure) file(path, name string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading a program for the helper kernel: %w", err)
	}
	c.out.add(name, 0o100755, data)
	if line, ok := bytes.CutPrefix(data, []byte("#!")); ok {
		line, _, _ = bytes.Cut(line, []byte("\n"))
		words := strings.Fields(string(line))
		if len(words) == 0 {
			return nil
		}
		return c.file(words[0], words[0])
	}
	if !bytes.HasPrefix(data, []byte(elf.ELFMAG)) {
		return nil
	}
	return c.needs(path, data)
}

// needs adds the dynamic loader and the shared libraries of a program or library.
func (c *closure) needs(path string, data []byte) error {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		interp := make([]byte, p.Filesz)
		if _, err := p.ReadAt(interp, 0); err != nil {
			return fmt.Errorf("reading %s: %w", path, err)
		}
		loader := strings.TrimRight(string(interp), "\x00")
		content, err := os.ReadFile(loader)
		if err != nil {
			return fmt.Errorf("reading the loader of %s: %w", path, err)
		}
		c.out.add(loader, 0o100755, content)
	}
	libraries, err := f.ImportedLibraries()
	if err != nil {
		return nil // a program without a dynamic section needs none
	}
	dirs := searchDirs(path, f)
	for _, lib := range libraries {
		if err := c.library(lib, dirs, f); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// library adds one shared library, and what it needs itself.
func (c *closure) library(name string, dirs []string, user *elf.File) error {
	if c.libs[name] {
		return nil
	}
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		f, err := elf.NewFile(bytes.NewReader(data))
		if err != nil || f.Machine != user.Machine || f.Class != user.Class {
			continue
		}
		c.libs[name] = true
		c.out.add(path, 0o100755, data)
		if !slices.Contains(c.dirs, dir) {
			c.dirs = append(c.dirs, dir)
		}
		return c.needs(path, data)
	}
	return fmt.Errorf("its shared library %s was not found", name)
}

// searchDirs are the directories in which the loader looks for libraries (ld.so(8)): those that the file names, those of ld.so.conf(5),
// and the usual ones.
func searchDirs(path string, f *elf.File) []string {
	var dirs []string
	for _, tag := range []elf.DynTag{elf.DT_RPATH, elf.DT_RUNPATH} {
		values, err := f.DynString(tag)
		if err != nil {
			continue
		}
		for _, value := range values {
			for _, dir := range filepath.SplitList(value) {
				dirs = append(dirs, strings.NewReplacer("$ORIGIN", filepath.Dir(path), "${ORIGIN}", filepath.Dir(path)).Replace(dir))
			}
		}
	}
	if configs, err := filepath.Glob("/etc/ld.so.conf.d/*.conf"); err == nil {
		slices.Sort(configs)
		for _, config := range configs {
			dirs = append(dirs, configuredDirs(config)...)
		}
	}
	triplet := map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu", "riscv64": "riscv64-linux-gnu"}[runtime.GOARCH]
	return append(dirs, "/lib/"+triplet, "/usr/lib/"+triplet, "/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib")
}

func configuredDirs(config string) []string {
	data, err := os.ReadFile(config)
	if err != nil {
		return nil // the loader would not read it either
	}
	var dirs []string
	for line := range strings.Lines(string(data)) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); filepath.IsAbs(line) {
			dirs = append(dirs, line)
		}
	}
	return dirs
}
