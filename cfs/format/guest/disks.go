package guest

import s "etcpve/cfs/format/schema"

// volumeKeys name the volume behind a drive.
var volumeKeys = s.Keys{
	"file":   s.Named("pve-volume-id-or-qm-path").Bare().Must(),
	"volume": s.Same("file", ""),
	"size":   s.Named("disk-size"),
}

// diskKeys are the settings that drives on every bus have.
var diskKeys = with(volumeKeys, s.Keys{
	"aio":                s.Choice("native", "threads", "io_uring"),
	"backup":             s.Truth(),
	"bps":                s.Integer(),
	"bps_max_length":     s.Integer().Min(1),
	"bps_rd":             s.Integer(),
	"bps_rd_length":      s.Same("bps_rd_max_length", ""),
	"bps_rd_max_length":  s.Integer().Min(1),
	"bps_wr":             s.Integer(),
	"bps_wr_length":      s.Same("bps_wr_max_length", ""),
	"bps_wr_max_length":  s.Integer().Min(1),
	"cache":              s.Choice("none", "writethrough", "writeback", "unsafe", "directsync"),
	"detect_zeroes":      s.Truth(),
	"discard":            s.Choice("ignore", "on"),
	"format":             s.Choice("raw", "qcow", "qed", "qcow2", "vmdk", "cloop"),
	"iops":               s.Integer(),
	"iops_max":           s.Integer(),
	"iops_max_length":    s.Integer().Min(1),
	"iops_rd":            s.Integer(),
	"iops_rd_length":     s.Same("iops_rd_max_length", ""),
	"iops_rd_max":        s.Integer(),
	"iops_rd_max_length": s.Integer().Min(1),
	"iops_wr":            s.Integer(),
	"iops_wr_length":     s.Same("iops_wr_max_length", ""),
	"iops_wr_max":        s.Integer(),
	"iops_wr_max_length": s.Integer().Min(1),
	"mbps":               s.Number(),
	"mbps_max":           s.Number(),
	"mbps_rd":            s.Number(),
	"mbps_rd_max":        s.Number(),
	"mbps_wr":            s.Number(),
	"mbps_wr_max":        s.Number(),
	"media":              s.Choice("cdrom", "disk").Else("disk"),
	"replicate":          s.Truth().Else(1),
	"rerror":             s.Choice("ignore", "report", "stop"),
	"serial":             s.Named("urlencoded").Long(60),
	"shared":             s.Truth().Else(0),
	"snapshot":           s.Truth(),
	"werror":             s.Choice("enospc", "ignore", "report", "stop"),
})

var wwn = s.Matching(`(0x)[0-9a-fA-F]{16}`)

// What each bus adds.
var (
	ideKeys  = with(diskKeys, s.Keys{"model": s.Named("urlencoded").Long(120), "ssd": s.Truth(), "wwn": wwn})
	sataKeys = with(diskKeys, s.Keys{"ssd": s.Truth(), "wwn": wwn})
	scsiKeys = with(diskKeys, s.Keys{
		"iothread":  s.Truth(),
		"product":   s.Matching(`[A-Za-z0-9\-_\s]{0,16}`),
		"queues":    s.Integer().Min(2),
		"ro":        s.Truth(),
		"scsiblock": s.Truth().Else(0),
		"ssd":       s.Truth(),
		"vendor":    s.Matching(`[A-Za-z0-9\-_\s]{0,8}`),
		"wwn":       wwn,
	})
	virtioKeys  = with(diskKeys, s.Keys{"iothread": s.Truth(), "ro": s.Truth()})
	efidiskKeys = with(volumeKeys, s.Keys{
		"efitype":           s.Choice("2m", "4m").Else("2m"),
		"format":            diskKeys["format"],
		"ms-cert":           s.Choice("2011", "2023", "2023w", "2023k").Else("2011"),
		"pre-enrolled-keys": s.Truth().Else(0),
	})
	tpmstateKeys = with(volumeKeys, s.Keys{
		"format":  s.Choice("raw", "qcow2", "vmdk"),
		"version": s.Choice("v1.2", "v2.0").Else("v1.2"),
	})
	unusedKeys = s.Keys{"file": s.Named("pve-volume-id").Bare().Must(), "volume": s.Same("file", "")}
)

// cpuModels are the processor models that QEMU has built in.
var cpuModels = []string{
	"486", "a64fx", "athlon", "Broadwell", "Broadwell-IBRS", "Broadwell-noTSX", "Broadwell-noTSX-IBRS",
	"Cascadelake-Server", "Cascadelake-Server-noTSX", "Cascadelake-Server-v2", "Cascadelake-Server-v4", "Cascadelake-Server-v5",
	"ClearwaterForest", "Conroe", "Cooperlake", "Cooperlake-v2", "core2duo", "coreduo",
	"cortex-a35", "cortex-a53", "cortex-a55", "cortex-a57", "cortex-a710", "cortex-a72", "cortex-a76",
	"EPYC", "EPYC-Genoa", "EPYC-Genoa-v2", "EPYC-IBPB", "EPYC-Milan", "EPYC-Milan-v2", "EPYC-Milan-v3",
	"EPYC-Rome", "EPYC-Rome-v2", "EPYC-Rome-v3", "EPYC-Rome-v4", "EPYC-Rome-v5", "EPYC-Turin", "EPYC-v3", "EPYC-v4", "EPYC-v5",
	"GraniteRapids", "GraniteRapids-v2", "GraniteRapids-v3", "Haswell", "Haswell-IBRS", "Haswell-noTSX", "Haswell-noTSX-IBRS", "host",
	"Icelake-Client", "Icelake-Client-noTSX", "Icelake-Server", "Icelake-Server-noTSX", "Icelake-Server-v3", "Icelake-Server-v4",
	"Icelake-Server-v5", "Icelake-Server-v6", "Icelake-Server-v7", "IvyBridge", "IvyBridge-IBRS", "KnightsMill", "kvm32", "kvm64", "max",
	"Nehalem", "Nehalem-IBRS", "neoverse-n1", "neoverse-n2", "neoverse-v1",
	"Opteron_G1", "Opteron_G2", "Opteron_G3", "Opteron_G4", "Opteron_G5", "Penryn", "pentium", "pentium2", "pentium3", "phenom",
	"qemu32", "qemu64", "SandyBridge", "SandyBridge-IBRS", "SapphireRapids", "SapphireRapids-v2", "SapphireRapids-v3", "SapphireRapids-v4",
	"SierraForest", "SierraForest-v2", "SierraForest-v3", "Skylake-Client", "Skylake-Client-IBRS", "Skylake-Client-noTSX-IBRS", "Skylake-Client-v4",
	"Skylake-Server", "Skylake-Server-IBRS", "Skylake-Server-noTSX-IBRS", "Skylake-Server-v4", "Skylake-Server-v5", "Westmere", "Westmere-IBRS",
}
