package kis

import "github.com/imgbuild/imgbuild/imagetypes/image"

// Start is what somebody needs to know who starts a kernel-initrd-system: names of files in its archive, and what the kernel is told.
type Start struct {
	Kernel  string
	Initrd  string // "" for none
	System  string // the file system, "" for none
	Cmdline string
}

// StartOf tells how the kernel-initrd-system of a request will be started.
func StartOf(r *image.Request) (*Start, error) {
	s, err := find(r)
	if err != nil {
		return nil, err
	}
	start := &Start{Kernel: r.BaseName + "-" + s.kernel.Version + ".kernel", Cmdline: s.commandLine(r)}
	if s.kernel.Initrd != "" && r.Description.Type.InitrdSystem != "none" {
		start.Initrd = r.BaseName + ".initrd"
	}
	if r.Description.Type.Filesystem != "" {
		start.System = r.BaseName
	}
	return start, nil
}
