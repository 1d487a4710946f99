// Package diskformat writes a raw disk in the formats of virtual machine monitors: qcow2, VMDK, VDI, VHD, VHDX, and the archive that the Google Compute
// Engine takes.
//
// The writers here skip what reads as zeros, compress on all processors and give the same bytes for the same disk. What a user asks for
// beyond them (by options that only qemu-img knows) is left to qemu-img.
package diskformat

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/internal/repro"
)

// qemuImg is the program for options that the writers here don't know.
const qemuImg = "qemu-img"

// Option is one option of a format, as in qemu-img's -o name=value.
type Option struct {
	Name, Value string
}

// Settings say how a disk is written.
type Settings struct {
	Options []Option
	// Tag is a GUID that a vhd-fixed image carries at byte 65536; empty for none. Some clouds ask for it.
	Tag string
	// License is the address of a licence that a gce image carries; empty for none.
	License string
	// IDs gives the identifiers and times that a format keeps.
	IDs repro.Source
	// Jobs is how many processors compress; 0 means all.
	Jobs int
	// Progress counts bytes of the disk; nil counts nothing.
	Progress progress.Task
	// Log hears when qemu-img is used; nil drops it.
	Log *slog.Logger
}

// Format is one format.
type Format struct {
	Name      string // as in a description's format attribute
	Extension string // of the file, without a dot

	qemu  string   // qemu-img's name; empty: it does not know the format
	fixed []Option // options of qemu-img that the name implies
	write func(context.Context, *job) error
	// check looks at the values of options, nil if there is nothing to see.
	check func(*job) error
	// options are those that write understands; others lead to qemu-img.
	options []string
}

// All returns the formats in the order of their names.
func All() []Format {
	return []Format{
		{Name: "gce", Extension: "tar.gz", write: writeGCE, check: checkGCE},
		{Name: "qcow2", Extension: "qcow2", qemu: "qcow2", write: writeQcow2, check: checkQcow2, options: []string{"cluster_size", "compression", "compression_type", "compat"}},
		{Name: "raw", Extension: "raw", qemu: "raw", write: writeRaw},
		{Name: "vdi", Extension: "vdi", qemu: "vdi", write: writeVDI},
		{Name: "vhd", Extension: "vhd", qemu: "vpc", write: writeVHD, fixed: []Option{{"force_size", "on"}}, options: []string{"force_size"}},
		{Name: "vhd-fixed", Extension: "vhdfixed", qemu: "vpc", write: writeVHDFixed, check: checkVHDFixed, fixed: []Option{{"subformat", "fixed"}, {"force_size", "on"}}, options: []string{"force_size"}},
		{Name: "vhdx", Extension: "vhdx", qemu: "vhdx", write: writeVHDX, check: checkVHDX, options: []string{"block_size"}},
		{Name: "vmdk", Extension: "vmdk", qemu: "vmdk", write: writeVMDK, options: []string{"subformat", "adapter_type", "hwversion"}},
	}
}

// Lookup returns the format of the given name.
func Lookup(name string) (Format, error) {
	for _, f := range All() {
		if f.Name == name {
			return f, nil
		}
	}
	var names []string
	for _, f := range All() {
		names = append(names, f.Name)
	}
	return Format{}, fmt.Errorf("there is no disk format %q; there are %s", name, strings.Join(names, ", "))
}

// job is one disk to be written.
type job struct {
	raw      *os.File
	size     int64
	out      *eagerFile
	settings Settings
}

// option returns the value of the last option of the name, or other if there is none.
func (j *job) option(name, other string) string {
	for _, o := range slices.Backward(j.settings.Options) {
		if o.Name == name {
			return o.Value
		}
	}
	return other
}

// native reports whether the writer here obeys all these options.
func (f Format) native(options []Option) bool {
	if f.qemu == "" {
		return true
	}
	for _, o := range options {
		if !slices.Contains(f.options, o.Name) {
			return false
		}
		if o.Name == "subformat" && o.Value != vmdkSparse && o.Value != vmdkStream {
			return false
		}
		if o.Name == "force_size" && o.Value != "on" || o.Name == "compat" && o.Value != "1.1" && o.Value != "v3" {
			return false
		}
	}
	return true
}

// Needs returns the name of the external program that writing with these options takes, or "".
func (f Format) Needs(options []Option) string {
	if f.native(options) {
		return ""
	}
	return qemuImg
}

// Check refuses settings that Write can't obey. Options that only qemu-img knows are not looked at.
func (f Format) Check(s Settings) error {
	if f.check == nil || !f.native(s.Options) {
		return nil
	}
	return f.check(&job{settings: s})
}

// Write writes the first size bytes of raw, a multiple of 512, as a new file at path.
func (f Format) Write(ctx context.Context, raw *os.File, size int64, path string, s Settings) (err error) {
	if size%512 != 0 {
		return fmt.Errorf("writing %s: the disk's %d bytes are no whole sectors of 512", path, size)
	}
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	if s.Progress == nil {
		s.Progress = progress.Discard.Start("", 0, progress.Bytes)
	}
	if s.Jobs <= 0 {
		s.Jobs = runtime.GOMAXPROCS(0)
	}
	if !f.native(s.Options) {
		return f.convert(ctx, raw, path, s)
	}
	out, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("writing a %s disk: %w", f.Name, err)
	}
	defer func() {
		if closeErr := out.Close(); err == nil {
			err = closeErr
		}
	}()
	if err := f.write(ctx, &job{raw: raw, size: size, out: &eagerFile{File: out}, settings: s}); err != nil {
		return fmt.Errorf("writing %s as %s: %w", path, f.Name, err)
	}
	return nil
}

// convert leaves the work to qemu-img.
func (f Format) convert(ctx context.Context, raw *os.File, path string, s Settings) error {
	args := []string{"convert", "-f", "raw", "-O", f.qemu}
	options := slices.Clone(f.fixed)
	compress := f.Name == "qcow2"
	for _, o := range s.Options {
		if o.Name == "compression" {
			compress = o.Value != "off"
			continue
		}
		options = append(options, o)
	}
	if compress {
		args = append(args, "-c")
	}
	for _, o := range options {
		args = append(args, "-o", o.Name+"="+o.Value)
	}
	s.Log.Info("disk is converted by qemu-img, because of its options; some of its formats differ from run to run", "format", f.Name, "options", fmt.Sprint(s.Options))
	return command.Run(ctx, command.Cmd{Name: qemuImg, Args: append(args, raw.Name(), path)})
}
