package system

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/registry"
	"github.com/imgbuild/imgbuild/rootfs"
	"github.com/imgbuild/imgbuild/stack"
)

// Plan is what a build would do.
type Plan struct {
	Containers []registry.FetchPlan `json:"containers,omitempty"`
	// Report is that of the stack; nil without one, or if containers have to be pulled first.
	Report *stack.Report `json:"report,omitempty"`
	// Images are what would be built, one of each type; empty if their description lies in a container that has to be pulled first.
	Images []*PlannedImage `json:"images,omitempty"`
	// Push is where the container would be sent, empty for nowhere.
	Push string `json:"push,omitempty"`
}

// PlannedImage is an image that would be built.
type PlannedImage struct {
	Name     string   `json:"name"`
	Version  string   `json:"version"`
	Arch     string   `json:"architecture"`
	Type     string   `json:"type"`
	Profiles []string `json:"profiles,omitempty"`
	Packages []string `json:"packages,omitempty"` // that the description names
	Rebuild  bool     `json:"rebuild"`            // the description comes from a container
	// Shares names the image type whose root tree this one shares, as far as they agree; empty for one that has its own.
	Shares string `json:"shares,omitempty"`
	// Overlay says what would be added to the root tree, Build what the builder would make; empty if containers have to be pulled first. Where packages
	// would be installed into a shared tree, only the first type says so.
	Overlay string `json:"overlay,omitempty"`
	Build   string `json:"build,omitempty"`
}

// MakePlan finds out what [Build] would do, pulls nothing and writes nothing but indexes of layers in the store and lists of packages in the cache.
func MakePlan(ctx context.Context, opts BuildOptions) (*Plan, error) {
	p, err := newPass(opts.Options, opts.AllowExistingRoot)
	if err != nil {
		return nil, err
	}
	plan := &Plan{}
	if push := opts.Push; push != nil {
		plan.Push = push.To.String()
	}
	err = errors.Join(plan.make(ctx, p, opts), p.close())
	if err != nil {
		return nil, err
	}
	return plan, nil
}

func (p *Plan) make(ctx context.Context, pass *pass, opts BuildOptions) error {
	here, err := p.findContainers(ctx, pass)
	if err != nil {
		return err
	}
	if !here {
		p.describe(pass)
		return nil
	}
	work, err := workplaceOf(filepath.Join(opts.TargetDir, RootDir))
	if err != nil {
		return err
	}
	existing, err := work.occupied()
	if err != nil {
		return err
	}
	from := ""
	if existing && opts.AllowExistingRoot {
		from = work.root
	}
	if err := pass.start(ctx, from); err != nil {
		return err
	}
	lead := pass.lead()
	if len(lead.Stack.Containers) > 0 {
		p.Report = lead.stack.Report
	}
	p.describe(pass)
	phase := rootfs.Whole
	if lead.inTree {
		phase = rootfs.Create
	}
	for _, r := range pass.roots(phase) {
		installs := false
		for _, j := range r.jobs {
			planned := p.Images[slices.Index(pass.jobs, j)]
			if j != r.jobs[0] {
				planned.Shares = r.jobs[0].image.Type.Image
			}
			if installs { // nothing more can be said
				continue
			}
			overlay, err := planned.ask(ctx, j, phase)
			if err != nil {
				return pass.of(j, err)
			}
			installs = len(overlay.Install) > 0
		}
	}
	return nil
}

// findContainers tells of the containers that the types start from, and whether all are here.
func (p *Plan) findContainers(ctx context.Context, pass *pass) (here bool, err error) {
	lead := pass.lead()
	names := lead.Stack.Containers
	if len(names) == 0 {
		for _, j := range pass.jobs {
			own, err := j.baseNames(ctx)
			if err != nil {
				return false, err
			}
			names = append(names, own...)
		}
	}
	here = true
	for i, name := range names {
		if slices.Contains(names[:i], name) && len(lead.Stack.Containers) == 0 {
			continue
		}
		client, err := lead.Client()
		if err != nil {
			return false, err
		}
		found, err := client.Plan(ctx, name, lead.Stack.Fetch)
		if err != nil {
			return false, err
		}
		p.Containers = append(p.Containers, *found)
		here = here && found.Local
	}
	return here, nil
}

// describe tells what the images are, if that is known.
func (p *Plan) describe(pass *pass) {
	for _, j := range pass.jobs {
		image := j.image
		if image == nil {
			return
		}
		planned := &PlannedImage{Name: image.Name, Version: image.Version, Arch: image.Arch, Type: image.Type.Image, Profiles: image.Profiles, Rebuild: j.inTree}
		if !j.inTree {
			planned.Packages = append(description.Names(image.Packages.Bootstrap.Packages), description.Names(image.Packages.System.Packages)...)
		}
		p.Images = append(p.Images, planned)
	}
}

// ask asks those who would work on the root tree, whose containers are here.
func (i *PlannedImage) ask(ctx context.Context, j *job, phase rootfs.Phase) (*rootfs.Plan, error) {
	request := j.request(phase, "")
	overlay, err := rootfs.PlanOverlay(ctx, request)
	if err != nil {
		return nil, err
	}
	i.Overlay = overlay.String()
	if overlay.Unpack { // what the builder would be given is known only afterwards
		return overlay, nil
	}
	i.Build, err = imagetypes.Plan(ctx, imagetypes.CreateOptions{Tree: j.tree, Description: j.image, Base: j.base, Mixed: len(j.Stack.Containers) > 0 && j.Stack.Force, Repro: request.Repro, Progress: j.Progress, Log: j.Log})
	return overlay, err
}

// WriteText writes the plan for people.
func (p *Plan) WriteText(w io.Writer) error {
	var b strings.Builder
	if len(p.Containers) > 0 {
		b.WriteString("Containers:\n")
	}
	for i, c := range p.Containers {
		fmt.Fprintf(&b, "  %d. %s  %s, %s", i+1, c.Name, progress.FormatCount(c.Layers, "layer"), progress.FormatBytes(c.Size))
		if c.Local {
			fmt.Fprintf(&b, ", here in %s\n", c.Where)
		} else {
			fmt.Fprintf(&b, ", to pull %s from %s\n", progress.FormatBytes(c.PullBytes), c.Where)
		}
	}
	if p.Report != nil {
		if err := p.writeStack(&b); err != nil {
			return err
		}
	}
	for _, i := range p.Images {
		i.write(&b)
	}
	if p.Push != "" {
		fmt.Fprintf(&b, "Pushed to: %s\n", p.Push)
	}
	if len(p.Images) == 0 || p.Images[0].Overlay == "" {
		b.WriteString("What clashes, and sizes of the image, can be told once the containers are here: see 'imgbuild pull'.\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (i *PlannedImage) write(b *strings.Builder) {
	fmt.Fprintf(b, "Image: %s %s for %s, type %s", i.Name, i.Version, i.Arch, i.Type)
	if i.Rebuild {
		b.WriteString(", built again after the container's own description")
	}
	b.WriteString("\n")
	if i.Shares != "" {
		fmt.Fprintf(b, "  begins as the root tree of type %s\n", i.Shares)
	} else if len(i.Packages) > 0 {
		fmt.Fprintf(b, "  packages: %s\n", strings.Join(i.Packages, " "))
	}
	for _, part := range []struct{ title, text string }{{"Added to the root tree", i.Overlay}, {"Built", i.Build}} {
		if part.text != "" {
			fmt.Fprintf(b, "%s:\n%s", part.title, indent(part.text))
		}
	}
}

func (p *Plan) writeStack(b *strings.Builder) error {
	var text strings.Builder
	if err := p.Report.WriteText(&text); err != nil {
		return err
	}
	fmt.Fprintf(b, "Stack, by the rule %q:\n%s", p.Report.Rule, indent(text.String()))
	return nil
}

func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("  " + strings.TrimRight(line, "\n") + "\n")
	}
	return b.String()
}
