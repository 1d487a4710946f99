// Package kis builds kernel-initrd-systems, the image types kis and pxe: an archive with a kernel, its initial RAM disk and, if the description names a
// file system, the root tree as such a file system, for boot servers and virtual machine monitors that load a kernel themselves.
package kis

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/imagetypes/archive"
	"github.com/imgbuild/imgbuild/imagetypes/filesystem"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/imagetypes/xen"
	"github.com/imgbuild/imgbuild/internal/ctxio"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/rootfs/initrd"
)

// Builder builds kernel-initrd-systems. It implements [image.Builder] and [image.Observing].
type Builder struct{}

// system is what goes into the archive.
type system struct {
	kernel     initrd.Kernel
	hypervisor string          // path in the tree, "" for none
	spec       filesystem.Spec // of the file system; its Type is "" for none, and it has no UUID if a file system of that type has none
}

// Check refuses what can't be built.
func (Builder) Check(ctx context.Context, r *image.Request) error {
	t := &r.Description.Type
	if t.LUKS != nil {
		return t.Errorf("luks", "leave it out, or build a disk (image=\"oem\")", "an encrypted system image can't be built yet")
	}
	if err := archive.CheckXZ(r.XZ); err != nil {
		return err
	}
	if t.Filesystem != "" {
		if err := filesystem.CheckImage(ctx, r, t.Filesystem); err != nil {
			return err
		}
	}
	if r.Tree == nil {
		return nil
	}
	_, err := find(r)
	return err
}

// Observes implements [image.Observing].
func (Builder) Observes(r *image.Request) bool {
	t := &r.Description.Type
	spec, err := filesystem.SpecOf(t, t.Filesystem)
	return err == nil && filesystem.Observes(spec)
}

// find looks for kernel, initial RAM disk and hypervisor.
func find(r *image.Request) (system, error) {
	t := &r.Description.Type
	need := "image type " + t.Image
	kernels := initrd.FindKernels(r.Tree)
	if len(kernels) == 0 {
		return system{}, image.Placed(t.At("image"), image.NoKernel(need))
	}
	var s system
	if t.XenServer {
		var err error
		if s.hypervisor, kernels, err = xen.FindHost(t, r.Tree, kernels); err != nil {
			return system{}, err
		}
	}
	s.kernel = kernels[len(kernels)-1]
	if s.kernel.Initrd == "" && t.InitrdSystem != "none" {
		return system{}, image.Placed(t.At("image"), &image.TreeError{
			Missing: "initial RAM disk of kernel " + s.kernel.Version, Need: need, Hint: "add the package dracut or initramfs-tools, or say initrd_system=\"none\"",
		})
	}
	if t.Filesystem == "" {
		return s, nil
	}
	var err error
	if s.spec, err = filesystem.SpecOf(t, t.Filesystem); err != nil {
		return system{}, err
	}
	if s.spec.UUID == "" && t.Filesystem != "squashfs" {
		s.spec.UUID = r.Repro.UUID("kernel-initrd-system " + r.BaseName)
	}
	return s, nil
}

// archiveName is the name of the result. What is compressed inside is not compressed once more.
func archiveName(r *image.Request) string {
	if r.Description.Type.Compressed {
		return r.BaseName + ".tar"
	}
	return r.BaseName + ".tar.xz"
}

// Plan names what goes into the archive.
func (Builder) Plan(_ context.Context, r *image.Request) (string, error) {
	r, err := r.Filled()
	if err != nil {
		return "", err
	}
	s, err := find(r)
	if err != nil {
		return "", err
	}
	text := fmt.Sprintf("kernel-initrd-system: %s, kernel %s", archiveName(r), s.kernel.Version)
	if s.kernel.Initrd != "" {
		text += ", its initial RAM disk"
	}
	if fs := r.Description.Type.Filesystem; fs != "" {
		text += fmt.Sprintf(", the system as %s, %s", fs, progress.FormatBytes(r.Tree.Stats().Data))
	}
	return text + "\n", nil
}

// Build writes BaseName.tar.xz or, where the description wants the system compressed, BaseName.tar.
func (Builder) Build(ctx context.Context, r *image.Request) ([]image.Artifact, error) {
	r, err := r.Filled()
	if err != nil {
		return nil, err
	}
	s, err := find(r)
	if err != nil {
		return nil, err
	}
	scratch, remove, err := r.Scratch("kis")
	if err != nil {
		return nil, err
	}
	defer remove()
	content := filepath.Join(scratch, "content")
	if err := os.Mkdir(content, 0o700); err != nil {
		return nil, fmt.Errorf("building a kernel-initrd-system: %w", err)
	}
	files := map[string]string{r.BaseName + "-" + s.kernel.Version + ".kernel": s.kernel.Vmlinuz}
	if s.kernel.Initrd != "" && r.Description.Type.InitrdSystem != "none" {
		files[r.BaseName+".initrd"] = s.kernel.Initrd
	}
	if s.hypervisor != "" {
		files[r.BaseName+"-"+path.Base(s.hypervisor)] = s.hypervisor
	}
	for name, from := range files {
		if err := image.Extract(r.Tree, from, filepath.Join(content, name)); err != nil {
			return nil, fmt.Errorf("building a kernel-initrd-system: %w", err)
		}
	}
	if r.Description.Type.Filesystem != "" {
		if err := s.writeSystem(ctx, r, content, scratch); err != nil {
			return nil, fmt.Errorf("building a kernel-initrd-system: %w", err)
		}
	}
	name := archiveName(r)
	if err := writeArchive(ctx, r, content, filepath.Join(r.Dir, name)); err != nil {
		return nil, fmt.Errorf("building a kernel-initrd-system: %w", err)
	}
	results := []image.Artifact{{Key: image.KeyKISArchive, File: name, Compress: r.Compress(false), UseForBundle: true}}
	if s.hypervisor == "" {
		return results, nil
	}
	hypervisor := r.BaseName + "-" + path.Base(s.hypervisor) // KIWI has it beside the archive only
	if err := image.Extract(r.Tree, s.hypervisor, filepath.Join(r.Dir, hypervisor)); err != nil {
		return nil, fmt.Errorf("building a kernel-initrd-system: %w", err)
	}
	return append(results, image.Artifact{Key: image.KeyXenHypervisor, File: hypervisor, UseForBundle: true}), nil
}

// writeSystem writes the file system, its check sums and the kernel's command line.
func (s system) writeSystem(ctx context.Context, r *image.Request, content, scratch string) error {
	tree, err := image.WithoutBuildFiles(r.Tree)
	if err != nil {
		return err
	}
	name := filepath.Join(content, r.BaseName)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	env := filesystem.Env{Repro: r.Repro, Log: r.Log, Progress: r.Progress, Workdir: scratch, Observe: r.Observe}
	size, err := filesystem.CreateImage(ctx, env, f, &r.Description.Type, tree, s.spec)
	if err != nil {
		return err
	}
	sums, err := sum(ctx, f, size)
	if err != nil {
		return err
	}
	if r.Description.Type.Compressed {
		if err := compress(ctx, r, f, size, name+".xz"); err != nil {
			return err
		}
		info, err := os.Stat(name + ".xz")
		if err != nil {
			return err
		}
		sums.compressed = info.Size()
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	for suffix, text := range map[string]string{".md5": sums.text(sums.md5), ".sha256": sums.text(sums.sha256), ".append": s.commandLine(r)} {
		if text == "" {
			continue // nothing to tell of a squashfs without kernelcmdline
		}
		if err := os.WriteFile(name+suffix, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func compress(ctx context.Context, r *image.Request, f *os.File, size int64, name string) (err error) {
	task := r.Progress.Start("compressing the system", size, progress.Bytes)
	defer func() { task.Done(err) }()
	out, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	return archive.XZ(ctx, out, r.XZ, func(w io.Writer) error {
		_, err := io.Copy(w, progress.Reader(io.NewSectionReader(f, 0, size), task))
		return err
	})
}

// commandLine is what the kernel is to be told.
func (s system) commandLine(r *image.Request) string {
	words := strings.Fields(r.Description.Type.KernelCmdline)
	if s.spec.UUID == "" {
		return strings.Join(words, " ")
	}
	var front []string
	if !slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, "root=") }) {
		front = append(front, "root=UUID="+s.spec.UUID)
	}
	if !slices.Contains(words, "ro") && !slices.Contains(words, "rw") {
		front = append(front, "rw") // no /etc/fstab says so
	}
	return strings.Join(append(front, words...), " ")
}

// writeArchive puts the files of a directory into the result, owned by root and with the build's time. The directory itself is not in it, so that unpacking changes
// nothing about the one of a boot server.
func writeArchive(ctx context.Context, r *image.Request, dir, name string) (err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	headers, size := []*tar.Header{}, int64(0)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return err
		}
		headers = append(headers, &tar.Header{Typeflag: tar.TypeReg, Name: e.Name(), Size: info.Size(), Mode: 0o644, ModTime: r.Repro.Epoch.Truncate(time.Second)})
		size += info.Size()
	}
	task := r.Progress.Start("writing "+filepath.Base(name), size, progress.Bytes)
	defer func() { task.Done(err) }()
	out, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	write := func(w io.Writer) error {
		archive := tar.NewWriter(w)
		for _, h := range headers {
			if err := writeFile(ctx, archive, h, filepath.Join(dir, h.Name), task); err != nil {
				return fmt.Errorf("writing %s into the archive: %w", h.Name, err)
			}
		}
		return archive.Close()
	}
	if r.Description.Type.Compressed {
		return write(out)
	}
	return archive.XZ(ctx, out, r.XZ, write)
}

// writeFile writes one file into a tar archive, its holes as zeros: where this machine keeps holes is not the same each time.
func writeFile(ctx context.Context, archive *tar.Writer, header *tar.Header, name string, task progress.Task) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(archive, ctxio.Reader(ctx, progress.Reader(f, task)))
	return err
}
