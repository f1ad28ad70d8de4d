// Only what the rig needs: no picture is made smaller, no telemetry.
export default {images: {unoptimized: true}};
