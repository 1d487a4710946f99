package guest

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes/xen"
)

// The loaders of a guest, as the attribute xen_loader names them; without one the host loads the kernel that lies beside the image.
const (
	loaderHVM    = "hvmloader"
	loaderPygrub = "pygrub"
	loaderPVGrub = "pvgrub"
)

// defaultMemory is the memory of a guest whose description gives none, in MiB. xl's own is 32.
const defaultMemory = 512

// machine is what a description says of the guest.
type machine struct {
	*description.Machine
	kind   string // xen.PV, xen.PVH or xen.HVM; "" if the kernel decides
	device string // of the first disk, such as xvda
	nics   []string
	notes  []string // what has no effect
}

var (
	deviceName = regexp.MustCompile(`^(xvd[a-z]{1,2}|[hs]d[a-z])\d{0,3}$`)
	bridgeName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$`)
	modelName  = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
)

// newMachine reads <machine> and refuses what no guest can be, with the place in the description.
func newMachine(d *description.Image) (*machine, error) {
	t := &d.Type
	m := &machine{Machine: t.Machine, device: "xvda"}
	switch m.XenLoader {
	case "", loaderHVM, loaderPygrub, loaderPVGrub:
	default:
		return nil, m.Errorf("xen_loader", "use hvmloader, pygrub or pvgrub, or leave it out", "there is no loader %q for guests of Xen", m.XenLoader)
	}
	if err := m.checkEntries(); err != nil {
		return nil, err
	}
	if err := m.checkKind(d.Arch); err != nil {
		return nil, err
	}
	if err := m.checkSizes(); err != nil {
		return nil, err
	}
	if m.Disk != nil && m.Disk.Device != "" {
		m.device = strings.TrimPrefix(m.Disk.Device, "/dev/")
		if !deviceName.MatchString(m.device) {
			return nil, m.Disk.Errorf("device", "use a name such as xvda", "a guest of Xen has no disk %q", m.Disk.Device)
		}
	}
	if err := m.readNICs(); err != nil {
		return nil, err
	}
	if m.DVD != nil && m.kind != xen.HVM {
		m.notes = append(m.notes, "vmdvd: only a guest with xen_loader=\"hvmloader\" has a DVD drive")
	}
	return m, nil
}

// checkEntries refuses lines that are no settings.
func (m *machine) checkEntries() error {
	for _, entry := range m.ConfigEntries {
		text := strings.TrimSpace(entry)
		key, ok := xen.EntryKey(text)
		if !ok && !strings.HasPrefix(text, "#") {
			return m.Errorf("vmconfig-entry", `write a setting of xl.cfg(5), such as on_crash = "preserve"`, "the entry %q is no setting of a guest of Xen", text)
		}
		switch value := xen.EntryText(text); {
		case key == "builder":
			return m.Errorf("vmconfig-entry", `write type = "pv", "pvh" or "hvm"`, "builder has no meaning for xl any more")
		case key == "type" && value != xen.PV && value != xen.PVH && value != xen.HVM:
			return m.Errorf("vmconfig-entry", `write type = "pv", "pvh" or "hvm"`, "a guest of Xen is not of the type %q", value)
		case key == "type":
			m.kind = value
		}
	}
	return nil
}

// checkKind settles what the loader implies.
func (m *machine) checkKind(arch string) error {
	switch {
	case m.XenLoader == loaderHVM && m.kind == "":
		m.kind = xen.HVM
	case m.XenLoader == loaderHVM && m.kind != xen.HVM:
		return m.Errorf("xen_loader", "leave one of them out", "hvmloader starts guests of the type hvm, and vmconfig-entry says type = %q", m.kind)
	case m.XenLoader != loaderHVM && m.kind == xen.HVM:
		return m.Errorf("xen_loader", `write xen_loader="hvmloader"`, "vmconfig-entry says type = \"hvm\", which hvmloader starts")
	}
	if arch == "x86_64" {
		return nil
	}
	if m.XenLoader == loaderHVM || m.XenLoader == loaderPVGrub {
		return m.Errorf("xen_loader", "leave it out, or use pygrub", "%s is for x86_64, and the image is for %s", m.XenLoader, arch)
	}
	if m.kind == xen.PV {
		return m.Errorf("vmconfig-entry", `write type = "pvh"`, "guests of the type pv are for x86_64, and the image is for %s", arch)
	}
	m.kind = xen.PVH
	return nil
}

// checkSizes looks at memory and processors.
func (m *machine) checkSizes() error {
	if m.Has("memory") && m.Memory <= 0 {
		return m.Errorf("memory", `write MiB, such as memory="512"`, "a guest of Xen can't run without memory")
	}
	if m.MaxMemory > 0 && m.MaxMemory < m.memory() {
		return m.Errorf("max_memory", "make it at least as large", "the guest's most memory, %d MiB, is less than the %d MiB that it starts with", m.MaxMemory, m.memory())
	}
	if m.MaxCPU > 0 && m.MaxCPU < m.CPUs {
		return m.Errorf("max_cpu", "make it at least as large", "the guest has %d processors and at most %d", m.CPUs, m.MaxCPU)
	}
	if m.Memory == 0 {
		m.notes = append(m.notes, fmt.Sprintf("the description gives the machine no memory: it gets %d MiB", defaultMemory))
	}
	return nil
}

// memory is the guest's memory in MiB.
func (m *machine) memory() int {
	if m.Memory > 0 {
		return m.Memory
	}
	return defaultMemory
}

// readNICs turns the network cards into xl's specifications, xl-network-configuration(5).
func (m *machine) readNICs() error {
	seen := map[string]bool{}
	for i := range m.NICs {
		nic := &m.NICs[i]
		var words []string
		if nic.MAC != "" {
			mac := strings.ToLower(nic.MAC)
			first, err := hex.DecodeString(mac[:min(2, len(mac))])
			switch {
			case err != nil || len(mac) != len("00:16:3e:00:00:00"):
				return nic.Errorf("mac", "write it as 00:16:3e:00:00:01", "%q is no address of a network card", nic.MAC)
			case first[0]&1 != 0:
				return nic.Errorf("mac", "use one that begins with 00:16:3e, which are Xen's", "%s is the address of a group, not of a network card", nic.MAC)
			case seen[mac]:
				return nic.Errorf("mac", "give each card its own", "two network cards have the address %s", nic.MAC)
			}
			seen[mac] = true
			words = append(words, "mac="+mac)
		}
		link, err := linkOf(nic)
		if err != nil {
			return err
		}
		if link != "" {
			words = append(words, link)
		}
		if nic.Driver != "" {
			if !modelName.MatchString(nic.Driver) {
				return nic.Errorf("driver", "use a name such as e1000", "there is no network card %q", nic.Driver)
			}
			if m.kind == xen.HVM {
				words = append(words, "model="+nic.Driver)
			} else {
				m.notes = append(m.notes, fmt.Sprintf("driver=%q of a network card: only a guest with xen_loader=\"hvmloader\" has such cards, others use Xen's own", nic.Driver))
			}
		}
		m.nics = append(m.nics, strings.Join(words, ","))
	}
	return nil
}

// linkOf says how a card is connected: to a bridge, which the attribute interface names as it did for KIWI's .xenconfig, or by a script of the host.
func linkOf(nic *description.VMNIC) (string, error) {
	bridge := nic.Interface
	if strings.Trim(bridge, "0123456789") == "" || bridge == "undef" {
		bridge = "" // a number, or nothing: the host's usual bridge
	}
	if bridge != "" && !bridgeName.MatchString(bridge) {
		return "", nic.Errorf("interface", "use the name of a bridge of the host, such as xenbr0, or a number", "%q is no name of a bridge", nic.Interface)
	}
	switch nic.Mode {
	case "", "bridged":
		if bridge != "" {
			return "bridge=" + bridge, nil
		}
		return "", nil
	case "nat":
		return "script=vif-nat", nil
	case "routed":
		return "script=vif-route", nil
	case "openvswitch":
		if bridge != "" {
			return "script=vif-openvswitch,bridge=" + bridge, nil
		}
		return "script=vif-openvswitch", nil
	}
	return "", nic.Errorf("mode", "use bridged, nat, routed or openvswitch", "a guest of Xen can't be connected by %q", nic.Mode)
}
